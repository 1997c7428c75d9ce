"""The scripts that decide in the store: what they are told, and what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lib.valkey import Script
from usage.counters.claims import (
    NOTHING,
    Admission,
    Amounts,
    ByProvider,
    Part,
    QuotaClaim,
    RateClaim,
    SlotClaim,
    State,
)

PREFIX = "{patchbay}:"
KEEP_PAST = 3 * 86_400  # seconds for which a past window's counter stays: clocks may be set back


def _script(name: str) -> Script:
    return Script(Path(__file__).with_name(f"{name}.lua").read_text("utf-8"))


ADMIT, SETTLE, BEGIN, JOIN, FILL = map(_script, ("admit", "settle", "epoch", "join", "fill"))


CLAIMS = Script(
    "local answer = {} "
    "for n, one in ipairs(cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))) do "
    "answer[n] = {one[6], one[7], one[8], one[2], one[3]} end "
    "return answer"
)


def write(part: Part, arguments: list[Any]) -> None:
    """A part as admit.lua reads it."""
    arguments.append(len(part.claims))
    for claim in part.claims:
        key = PREFIX + claim.key
        amount = claim.amount(part.amounts)
        if type(claim) is RateClaim:
            settles = int(claim.settles)
            arguments += ("r", key, claim.limit.limit, claim.width, amount, settles, part.provider)
        elif type(claim) is QuotaClaim:
            quota = claim.quota
            arguments += (
                *("q", key, claim.counter, quota.limit, amount, int(quota.hard)),
                *(claim.begins, int(claim.fresh), claim.since),
                *(expiry(claim), quota.metric.value, claim.weight, part.provider),
            )
        elif type(claim) is SlotClaim:
            arguments += ("s", key, claim.limit.limit)


def admission_of(answer: Sequence[Any], parts: Sequence[Part]) -> Admission:
    code, _, chosen, *numbers = answer
    states: list[State] = []
    missing: list[QuotaClaim] = []
    claims = [claim for part in parts for claim in part.claims]
    for place in range(len(numbers) // 3):
        left, wait, refused = numbers[3 * place : 3 * place + 3]
        if refused == 2:
            missing.append(claims[place])  # type: ignore[arg-type]
        else:
            states.append(State(claims[place], left, wait, bool(refused)))
    return Admission(code == 1, tuple(states), chosen, tuple(missing))


def amounts_of(parts: Sequence[Part], used: Sequence[Amounts]) -> list[int]:
    return [
        claim.amount(actual)
        for part, actual in zip(parts, used, strict=True)
        for claim in part.claims
        if claim.settles
    ]


def amounts_by_ledger(claims: Sequence[Sequence[Any]], ledger: ByProvider) -> list[int]:
    """Two tries at one provider claim twice of the same counter; the ledger's sum is of both."""
    amounts, seen = [], set()
    for metric, weight, provider, key, field in claims:
        actual, name = ledger.get(text(provider), NOTHING), text(metric)
        known = not name or (key, field) in seen
        amounts.append(0 if known else getattr(actual, name) * int(weight))
        seen.add((key, field))
    return amounts


def held_claims(parts: Sequence[Part], moment: int) -> Iterable[tuple[Any, ...]]:
    """A hold's claims as join.lua reads them."""
    for part in parts:
        for claim in part.claims:
            key, amount = PREFIX + claim.key, claim.amount(part.amounts)
            if type(claim) is QuotaClaim:
                told = (claim.quota.metric.value, claim.weight, part.provider)
                yield ("q", key, claim.counter, amount, *told)
            elif type(claim) is RateClaim:
                if claim.settles:
                    yield ("r", key, moment // claim.width, amount, "tokens", 1, part.provider)
            else:
                yield ("s", key, 1, 1, "", 0, "")


def expiry(claim: QuotaClaim) -> int | str:
    ends = claim.period.ends
    return "" if ends is None else int(ends) + KEEP_PAST


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
