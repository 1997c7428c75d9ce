"""`manage.py verify_audit`: whether the audit log is as it was written."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from lib import audit

EVERY = 10_000  # entries between two lines of progress


class Command(BaseCommand):
    help = "Looks through the audit log for entries that were changed, removed or slipped in."

    def handle(self, *args: Any, **options: Any) -> None:
        audit.link()
        faults = 0
        for fault in audit.verify(self._progress):
            faults += 1
            self.stdout.write(str(fault))
        if faults:
            raise CommandError(f"{faults} faults: the log was tampered with, or is damaged.")
        head = audit.AuditHead.objects.first() or audit.AuditHead()
        self.stdout.write(f"{head.number} entries, all as they were written")
        self.stdout.write(f"last: {head.digest or 'none'}")

    def _progress(self, number: int) -> None:
        if number % EVERY == 0:
            self.stderr.write(f"{number} entries looked at")
