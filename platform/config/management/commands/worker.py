"""Runs the periodic jobs (config/jobs.py). Start as many as you like: each job runs once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.jobs import Worker


class Command(BaseCommand):
    help = "Runs the periodic jobs until SIGTERM. Several workers share them."
    requires_system_checks: list[str] = []  # they import all pages, and look at our code only

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--heartbeat", type=Path, help="A file to touch on every turn.")

    def handle(self, *args: Any, heartbeat: Path | None, **options: Any) -> None:
        worker = Worker(heartbeat=heartbeat)

        def stop(*_: Any) -> None:
            worker.stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        worker.run()
