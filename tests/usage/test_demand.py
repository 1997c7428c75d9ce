"""Claims follow the windows, and a change of quotas fills their counters twice."""

from __future__ import annotations

from dataclasses import replace

from accounts.identity import Identity
from tenants.keys import Mode
from tenants.quotas import IN_FORCE_SECONDS, Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.loops import on_loop
from tests.usage.counters.stage import OneClock, memory
from usage.counters.claims import MICROSECONDS, Amounts, Hold, Part, QuotaClaim
from usage.demand import Demand, Demands

DAILY = Quota(QuotaScope.TENANT, Metric.REQUESTS, Window.DAY, 10)
CALLER = Identity(
    kind="key",
    mode=Mode.LIVE,
    scopes=frozenset({"*"}),
    tenant_id=1,
    tenant_public_id="ten_1",
    key_id=2,
    key_public_id="k2",
)


def claim_of(demand: Demand, now: float) -> QuotaClaim:
    (claim,) = demand.claims(now)
    assert isinstance(claim, QuotaClaim)
    return claim


def demand_of(identity: Identity) -> Demand:
    return Demands().of_caller(identity, "chat.completions", "fast", "192.0.2.7")


@on_loop
async def test_a_changed_quota_is_filled_at_once_and_when_the_calls_from_before_have_ended() -> (
    None
):
    clock = OneClock()
    changed = clock.moment
    since = changed + IN_FORCE_SECONDS * MICROSECONDS
    demand = demand_of(replace(CALLER, quotas=(DAILY,), quotas_since=since))
    counters = memory(clock)
    clock.advance(MICROSECONDS)
    early = claim_of(demand, clock.now())
    assert (await counters.admit(Hold("a"), Part([early], Amounts(1)))).missing == (early,)
    number, _ = await counters.begin_filling(early)
    await counters.fill(early, number, 3, ())
    (used,) = await counters.read([early])
    assert used is not None and used.used == 3
    clock.advance((IN_FORCE_SECONDS - 2) * MICROSECONDS)
    assert claim_of(demand, clock.now()) is early
    clock.advance(2 * MICROSECONDS)
    late = claim_of(demand, clock.now())
    assert (late.key, late.since) == (early.key, since)
    assert (await counters.admit(Hold("b"), Part([late], Amounts(1)))).missing == (late,)


def test_a_new_window_is_another_counter() -> None:
    demand = demand_of(replace(CALLER, quotas=(DAILY,)))
    noon = 1_800_014_400.0
    today, tomorrow = claim_of(demand, noon), claim_of(demand, noon + 86_400)
    assert today.key != tomorrow.key
    assert claim_of(demand, noon) == today  # a clock that goes back is back in the old window


def test_a_hard_and_a_soft_one_do_not_count_one_call_twice() -> None:
    soft = replace(DAILY, limit=5, hard=False)
    hard_claim, soft_claim = demand_of(replace(CALLER, quotas=(DAILY, soft))).claims(1_800_000_000)
    assert hard_claim.key != soft_claim.key


def test_a_test_call_uses_up_nothing_that_is_live() -> None:
    live = claim_of(demand_of(replace(CALLER, quotas=(DAILY,))), 1_800_000_000)
    tested = claim_of(demand_of(replace(CALLER, mode=Mode.TEST, quotas=(DAILY,))), 1_800_000_000)
    assert live.key != tested.key
    assert dict(tested.subject)["mode"] == "test"
