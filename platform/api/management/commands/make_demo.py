"""`manage.py make_demo`: the demo's rows, and its secrets in `var/demo.env`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from api.configuration.demo import make_demo, read_secrets, write_secrets


class Command(BaseCommand):
    help = "Makes the demo tenant, its keys and people, and writes their secrets to a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--file", type=Path, default=Path(settings.VAR) / "demo.env")
        parser.add_argument("--url", default=f"http://127.0.0.1:{settings.ENV.PORT}")

    def handle(self, *args: Any, file: Path, url: str, **options: Any) -> None:
        values = make_demo(read_secrets(file))
        write_secrets(file, {"PATCHBAY_URL": url} | values)
        self.stdout.write(f"demo: secrets in {file}")
