"""What the counters ask of the database, off the event loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from lib.clock import Clock, SystemClock
from lib.threads import LookUps
from providers.operations import registry
from usage import processes, sums
from usage.counters.claims import NOTHING, Amounts, ByProvider, QuotaClaim
from usage.models import Attempt, QuotaAlert, UsageRecord

BROKEN = 5.0  # seconds without a beat of our own: the database was away, and for others too


class LedgerTruth:
    """The ledger and its sums. `process` is this gateway's name.

    It takes others for dead only while it was seen alive itself for as long: after the database
    was away, nobody has been seen for a while.
    """

    def __init__(self, process: str, look_ups: LookUps, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._process = process
        self._look_ups = look_ups
        self._beat_at = self._beating_since = float("-inf")

    async def sum(self, claim: QuotaClaim, among: Sequence[str]) -> tuple[int, Sequence[str]]:
        return await self._look_ups.run(ledger_sum, claim, among)

    async def used(self, request_ids: Sequence[str]) -> Mapping[str, ByProvider]:
        return await self._look_ups.run(_used, request_ids)

    async def processes(self) -> Sequence[str]:
        found = await self._look_ups.run(processes.known)
        return sorted({self._process, *found})

    async def note_threshold(self, claim: QuotaClaim, threshold: int, used: int) -> None:
        await self._look_ups.run(_note_threshold, claim, threshold, used)

    async def dead(self, process: str) -> bool:
        now = self._clock.monotonic()
        if now - self._beat_at > BROKEN:
            return False
        if now - self._beating_since < processes.DEAD.total_seconds():
            return False
        return await self._look_ups.run(processes.bury, process)

    async def forget(self, process: str) -> None:
        await self._look_ups.run(processes.forget, process)

    async def beat(self) -> None:
        await self._look_ups.run(processes.beat, self._process)
        now = self._clock.monotonic()
        if now - self._beat_at > BROKEN:
            self._beating_since = now
        self._beat_at = now

    async def leave(self) -> None:
        await self._look_ups.run(processes.leave, self._process)


def _note_threshold(claim: QuotaClaim, threshold: int, used: int) -> None:
    subject = dict(claim.subject)
    QuotaAlert.objects.bulk_create(
        [
            QuotaAlert(
                counter=f"{claim.key}:{claim.counter}",
                threshold=threshold,
                limit=claim.quota.limit,
                used=used,
                quota=claim.quota.name,
                tenant_id=subject.get("tenant_id"),
                mode=subject.get("mode", "live"),
            )
        ],
        ignore_conflicts=True,  # another gateway, or this one before a restart, was first
    )


def _used(request_ids: Sequence[str]) -> Mapping[str, ByProvider]:
    found: dict[str, dict[str, Amounts]] = {}
    for record in UsageRecord.objects.filter(pk__in=request_ids):
        tokens = record.input_tokens + record.output_tokens
        own = Amounts(1, tokens, record.charge, record.units, record.bytes)
        found[record.request_id] = {"": own}
        if record.attempts:
            # Without rows of their own there was one attempt, or one that nobody knows more of.
            tried = Amounts(1, tokens, record.cost, record.units)
            found[record.request_id][record.provider] = tried
    tries: dict[str, dict[str, Amounts]] = defaultdict(dict)
    for attempt in Attempt.objects.filter(request_id__in=found):
        tries[attempt.request_id]
        if attempt.verdict.startswith("skipped_"):
            continue
        one = Amounts(1, attempt.tokens, attempt.cost, attempt.units)
        before = tries[attempt.request_id].get(attempt.provider, NOTHING)
        total = before.plus(one)
        tries[attempt.request_id][attempt.provider] = total
    for request_id, by_provider in tries.items():
        found[request_id] = {"": found[request_id][""], **by_provider}
    return found


def ledger_sum(claim: QuotaClaim, among: Sequence[str] = ()) -> tuple[int, Sequence[str]]:
    """What a quota's window has used by the ledger, and which of these calls are in it
    (blocking)."""
    used, final = sums.used_and_final(among=among, **_asked(claim))
    return used, sorted(final)


def ledger_sums(claims: Sequence[QuotaClaim]) -> list[int]:
    """What each window has used by the ledger (blocking)."""
    return sums.used_each(list(map(_asked, claims)))


def _asked(claim: QuotaClaim) -> dict[str, Any]:
    """What the sums are asked for."""
    quota, subject = claim.quota, dict(claim.subject)
    names = [name for name in registry() if quota.covers(name)]
    mode = str(subject.pop("mode", "live"))
    return {
        "scope": quota.scope.value,
        "subject": subject,
        "metric": quota.metric.value,
        "since": claim.period.starts,
        "weights": {name: quota.weight(name) for name in names},
        "operations": names if quota.operations else None,
        "mode": mode,
    }
