"""What the ledger says for the providers' policies, as a configuration file that can be applied."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from api.configuration.exporting import Item
from providers import effective
from providers.models import Provider
from providers.resilience import without_faults
from usage.advice import LEAST, Advice, Observed, advise


def recommend(rows: Iterable[Provider], seen: dict[str, Observed], days: int) -> str:
    """The file's text; why is said in comments, and so is of whom there is nothing to say."""
    told = [_of(row, seen.get(row.slug), days) for row in rows]
    text = "".join(told)
    if any(line and not line.startswith("#") for line in text.splitlines()):
        return f"providers:\n{text}"
    return text or "# There are no such providers.\n"


def _of(row: Provider, seen: Observed | None, days: int) -> str:
    attempts = seen.attempts if seen else 0
    head = f"{row.slug}: {attempts} live attempts in {days} days"
    if seen is None or not seen.enough:
        return _comment(f"{head}; from {LEAST} on there is something to say.")
    advice = advise(seen, effective.of_provider(row))
    if not advice:
        return _comment(f"{head}; its numbers fit.")
    reasons = [_comment(f"  {_name(each)}: {each.reason}.") for each in advice]
    text: str = yaml.safe_dump([_item(row, advice)], sort_keys=False, width=100)
    return _comment(f"{head}.") + "".join(reasons) + textwrap.indent(text, "  ")


def _item(row: Provider, advice: Sequence[Advice]) -> Item:
    """With what it says already: a policy is applied as a whole."""
    own = without_faults(effective.said_by(row)).get("breaker", {})
    return {"slug": row.slug, "breaker": own | {_name(each): each.value for each in advice}}


def _name(advice: Advice) -> str:
    return advice.path.rpartition("/")[2]


def _comment(text: Any) -> str:
    return textwrap.fill(text, 98, initial_indent="# ", subsequent_indent="#     ") + "\n"
