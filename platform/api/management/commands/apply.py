"""`manage.py apply FILE.yaml`: the database brought to what a file says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from api.configuration.applying import apply
from api.configuration.document import ConfigurationFault, read
from api.configuration.key_file import write_keys
from api.configuration.run import Run


class Command(BaseCommand):
    help = "Makes the database match a configuration file for what the file names."
    requires_system_checks: list[str] = []  # they import all pages, and look at our code only

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="YAML (docs/configuration.md), or - for standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Show what would change.")
        parser.add_argument("--keys-out", type=Path, help="Write new keys here (JSON, mode 0600).")

    def handle(
        self, *args: Any, file: str, dry_run: bool, keys_out: Path | None, **options: Any
    ) -> None:
        def keep(run: Run) -> None:
            if keys_out:
                write_keys(keys_out, run.keys)

        try:
            run = apply(read(_text(file), os.environ), dry_run=dry_run, before_commit=keep)
        except ConfigurationFault as fault:
            faults = "\n  ".join(fault.faults)
            raise CommandError(
                f"{file} cannot be applied; nothing was changed:\n  {faults}"
            ) from None
        except (OSError, ValueError) as error:
            raise CommandError(f"Nothing was changed: {error}") from None
        self._tell(run, dry_run=dry_run, keys_out=keys_out)

    def _tell(self, run: Run, *, dry_run: bool, keys_out: Path | None) -> None:
        for change in run.changes:
            self.stdout.write(str(change))
        if not run.changes:
            self.stdout.write("nothing to change")
        elif dry_run:
            self.stdout.write(f"{len(run.changes)} changes, none made (--dry-run)")
        else:
            self.stdout.write(f"{len(run.changes)} changes made")
        if not run.keys or dry_run:
            return
        if keys_out:
            self.stdout.write(f"{len(run.keys)} new keys written to {keys_out}")
            return
        self.stdout.write("New keys, shown this once:")
        for name, text in run.keys.items():
            self.stdout.write(f"  {name}: {text}")


def _text(file: str) -> str:
    return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
