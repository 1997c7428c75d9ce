"""What a call that was refused before anything was tried is counted as, for its tenant to see."""

from __future__ import annotations

from accounts.identity import WARM
from gateway.exchange import Exchange
from gateway.paths import Door
from lib.problems import Problem
from usage.refusals import Kind

LONGEST = 200  # characters of a limit's name


def kind_of(problem: Problem, exchange: Exchange, door: Door) -> Kind | None:
    """None where nobody knows whose call it was, nobody made it, or the ledger tells of it."""
    caller = exchange.caller
    if caller is None or caller.tenant_id is None or caller.kind == WARM:
        return None
    if exchange.reservation is not None:
        return None
    whose = (caller.tenant_id, caller.key_id or 0, caller.mode.value)
    return Kind(*whose, door.name, problem.code, _limit(problem)[:LONGEST])


def _limit(problem: Problem) -> str:
    """The limit or the quota that was full."""
    told = problem.extra
    quota = (str(told[name]) for name in ("scope", "metric", "window") if name in told)
    return str(told.get("policy") or " ".join(quota))
