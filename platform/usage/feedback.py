"""People's word on answers: kept here, read by every worker for its targets' scores.

A worker asks the database for what is new every few seconds (gateway/live.py), so that all
workers learn of it, and after a restart once more of what came last. A call counts with the
first word on it: who changes their mind changes the row, but a score is no ballot to be stuffed.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from tenants.keys import Mode
from usage.feedback_models import Feedback
from usage.models import UsageRecord

MOST_AT_ONCE = 1000
REMEMBERED = dt.timedelta(hours=6)  # older words hardly weigh any more


@dataclass(frozen=True, slots=True)
class Word:
    """One person's, on one target."""

    number: int
    target: str
    score: float


@transaction.atomic
def give(*, record: UsageRecord, score: float, comment: str = "") -> tuple[Feedback, bool]:
    """The call's feedback, and whether it is the first. `score` is 0…1."""
    return Feedback.objects.update_or_create(
        request_id=record.request_id,
        defaults={"score": score, "comment": comment},
        create_defaults={
            "tenant_id": record.tenant_id,
            "target": target_of(record),
            "score": score,
            "comment": comment,
        },
    )


def target_of(record: UsageRecord) -> str:
    name = f"{record.provider}/{record.model}" if record.model else record.provider
    return name if record.mode == Mode.LIVE else f"test:{record.tenant_id}:{name}"


def words_since(number: int) -> list[Word]:
    """What was said after a word of that number, oldest first (blocking). A word whose
    transaction ended after a later one's may be missed: it is one of many."""
    rows = Feedback.objects.filter(pk__gt=number, created_at__gte=timezone.now() - REMEMBERED)
    newest = rows.order_by("-pk").values_list("pk", "target", "score")[:MOST_AT_ONCE]
    return [Word(*row) for row in reversed(newest)]
