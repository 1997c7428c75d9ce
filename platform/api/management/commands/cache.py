"""`manage.py cache`: the store that all gateways' caches share, forgetting, and warming."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from api import caches, invalidation, warm
from api.invalidation import EVERYTHING, KINDS, Named
from lib.clock import rfc3339
from lib.problems import Problem

BY = "manage.py"


class Command(BaseCommand):
    help = "The cache of answers: how full the gateways' store is; forgetting; what is kept warm."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="How full the store is, and whether it answers.")
        forget = actions.add_parser("invalidate", help="Forget what has to do with one thing.")
        what = forget.add_mutually_exclusive_group(required=True)
        for kind in KINDS:
            what.add_argument(f"--{kind}", help=_HELP[kind])
        clear = actions.add_parser("clear", help="Forget everything.")
        warming = actions.add_parser("warm", help="What is kept warm; with a name: ask it now.")
        warming.add_argument("name", nargs="?", default="", help="Of a warm request.")
        for action in (forget, clear):
            action.add_argument("--reason", default="", help="Why, for the log.")
        for action in (status, forget, clear, warming):
            action.add_argument("--json", action="store_true", help="For programs.")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            getattr(self, f"_{action}")(**options)
        except Problem as problem:
            faults = problem.extra.get("errors") or [{"detail": problem.detail}]
            raise CommandError(" ".join(fault["detail"] for fault in faults)) from None

    def _status(self, **options: Any) -> None:
        shared = caches.status()["shared"]
        if options["json"]:
            self.stdout.write(json.dumps(shared))
            return
        for name, value in shared.items():
            self.stdout.write(f"{name:<12} {json.dumps(value)}")

    def _invalidate(self, reason: str, **options: Any) -> None:
        (kind,) = [kind for kind in KINDS if options[kind] is not None]
        self._forget(invalidation.named(kind, options[kind]), reason, as_json=options["json"])

    def _clear(self, reason: str, **options: Any) -> None:
        self._forget(EVERYTHING, reason, as_json=options["json"])

    def _warm(self, name: str, **options: Any) -> None:
        told = warm.shown()["requests"] if not name else [warm.ask_now(name, by=BY)]
        if options["json"]:
            self.stdout.write(json.dumps(told, default=str))
            return
        for row in told:
            ran = rfc3339(row["ran_at"]) if row["ran_at"] else "never ran"
            line = f"{row['name']:<40} {row['operation']:<28} {ran:<21} {row['outcome'] or '-'}"
            self.stdout.write(line if not name else f"{name} is asked within a second or two")

    def _forget(self, what: Named, reason: str, *, as_json: bool) -> None:
        everywhere = invalidation.invalidate(what, by=BY, reason=reason)
        if as_json:
            told = {"what": what.what, "which": what.which, "everywhere": everywhere}
            self.stdout.write(json.dumps(told))
        else:
            self.stdout.write(f"forgotten: {what}; in force on every gateway within a second")


_HELP = {
    "tag": "Such as symbol:AAPL, or client:<tenant>:<name>.",
    "operation": "Such as finance.quote.",
    "tenant": "A tenant's slug or id.",
    "provider": "A provider's slug.",
    "model": "provider/model.",
    "route": "A route's alias, or its operation.",
    "key": "Of one answer, as /internal/v1/cache/analytics has it.",
}
