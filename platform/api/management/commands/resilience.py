"""`manage.py resilience`: the policies of breakers and retries, shown, checked and changed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from api.configuration.recommending import recommend
from api.configuration.run import Change, Kind
from providers import effective, resilience
from providers.models import Provider
from providers.presets import PRESETS
from providers.services import move_preset
from usage.advice import DAYS, observe


class Command(BaseCommand):
    help = "Policies of breakers and retries: presets, what is in force, faults, advice."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="The presets, and which are in force.")
        show = actions.add_parser("show", help="A policy in force, and where its numbers are from.")
        show.add_argument("provider", nargs="?", help="A provider's slug; the house unless said.")
        _add_validate(actions)
        advice = actions.add_parser("recommend", help="What the ledger says for the breakers.")
        advice.add_argument("provider", nargs="?", help="A provider's slug; all unless said.")
        advice.add_argument("--days", type=_days, default=DAYS, help="How far back; 1 to 45.")
        migrate = actions.add_parser("migrate", help="Have providers name another preset.")
        migrate.add_argument("--from", dest="of", required=True, choices=PRESETS)
        migrate.add_argument("--to", required=True, choices=PRESETS)
        migrate.add_argument("--dry-run", action="store_true", help="Show what would change.")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _list(self, **options: Any) -> None:
        names: dict[str, list[str]] = {name: [] for name in PRESETS}
        for slug, breaker in Provider.objects.order_by("slug").values_list("slug", "breaker"):
            if isinstance(breaker, dict) and breaker.get("preset") in names:
                names[breaker["preset"]].append(slug)
        for name, preset in PRESETS.items():
            breaker = preset["breaker"]
            mark = "*" if name == settings.RESILIENCE_PRESET else " "
            self.stdout.write(
                f"{mark} {name:<12} {preset['retry']['max_attempts']} tries, opens after "
                f"{breaker['consecutive_failures']} failures in a row for "
                f"{breaker['open_seconds']} s" + _named_by(names[name])
            )
        self.stdout.write("* the setting RESILIENCE_PRESET")

    def _show(self, provider: str | None, **options: Any) -> None:
        policy = effective.of_provider(_row(provider)) if provider else effective.of_house()
        for number in policy.numbers():
            value = json.dumps(number.value)
            self.stdout.write(f"{number.path:<35} {value:<34} {number.origin}")

    def _validate(self, file: str | None, provider: str | None, **options: Any) -> None:
        if file is not None:
            checked = {file: _read(file)}
        else:
            rows = [_row(provider)] if provider else Provider.objects.order_by("slug")
            checked = {row.slug: effective.said_by(row) for row in rows}
        faults = [
            f"{name}: {fault}"
            for name, said in checked.items()
            for fault in resilience.faults(said)
        ]
        if faults:
            raise CommandError("\n".join(faults))
        self.stdout.write(f"{len(checked)} checked, no faults")

    def _recommend(self, provider: str | None, days: int, **options: Any) -> None:
        rows = [_row(provider)] if provider else Provider.objects.filter(enabled=True)
        self.stdout.write(recommend(rows, observe(days), days), ending="")

    def _migrate(self, of: str, to: str, dry_run: bool, **options: Any) -> None:
        try:
            moved = move_preset(of=of, to=to, dry_run=dry_run) if of != to else []
        except ValidationError as error:
            told = " ".join(error.messages)
            raise CommandError(f"Nothing was changed: {told}. See `resilience validate`.") from None
        for row in moved:
            details = (f"breaker preset {of} → {to}",)
            self.stdout.write(str(Change(Kind.CHANGED, f"provider {row.slug}", details)))
        done = ", none made (--dry-run)" if dry_run else " made"
        self.stdout.write(f"{len(moved)} changes{done}" if moved else "nothing to change")


def _add_validate(actions: Any) -> None:
    parser = actions.add_parser("validate", help="Check a policy, or all in the database.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("file", nargs="?", help="JSON, or - for standard input.")
    what.add_argument("--provider", help="A provider's slug. All providers.")


def _days(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 45:
        return int(text)
    raise argparse.ArgumentTypeError("must be a whole number from 1 to 45")


def _row(slug: str) -> Provider:
    row: Provider | None = Provider.objects.filter(slug=slug).first()
    if row is None:
        raise CommandError(f"There is no provider {slug}.")
    return row


def _read(file: str) -> Any:
    try:
        return orjson.loads(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except orjson.JSONDecodeError as error:
        raise CommandError(
            f"{file} is no JSON: line {error.lineno}, column {error.colno}"
        ) from None
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None


def _named_by(slugs: list[str]) -> str:
    return f"; named by {', '.join(slugs)}" if slugs else ""
