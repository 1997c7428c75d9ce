"""Rate limits on the data path: whose allowance a call takes, and what the refusal says."""

from __future__ import annotations

import pytest

from tenants.limits import RateLimit, Scope
from tests.gateway.unit.rig import Rig
from tests.loops import on_loop


@on_loop
async def test_the_allowance_and_its_return(rig: Rig) -> None:
    key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 2, 60),))
    assert [(await rig.chat(key=key)).status for _ in range(2)] == [200, 200]
    refused = await rig.chat(key=key)
    error = refused.error
    assert (refused.status, error["code"]) == (429, "rate_limit_exceeded")
    assert error["policy"] == "key-minute"
    assert error["reset_seconds"] == int(refused.headers["retry-after"])
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert len(rig.upstreams.sent) == 2
    rig.clock.advance(error["reset_seconds"])
    assert (await rig.chat(key=key)).status == 200


SHARED = {
    # the scope; whether another key of the tenant, or one of another tenant, shares the allowance
    Scope.KEY: (False, False),
    Scope.USER: (False, False),
    Scope.PROJECT: (True, False),
    Scope.TENANT: (True, False),
    Scope.IP: (True, False),
}


@pytest.mark.parametrize(("scope", "shared"), SHARED.items(), ids=SHARED.keys())
@on_loop
async def test_who_shares_an_allowance(rig: Rig, scope: Scope, shared: tuple[bool, bool]) -> None:
    limits = (RateLimit(scope, 1, 60),)
    first, sibling = (rig.callers.add(rate_limits=limits) for _ in range(2))
    stranger = rig.callers.add(tenant=2, rate_limits=limits)
    assert (await rig.chat(key=first)).status == 200
    assert (await rig.chat(key=sibling)).status == (429 if shared[0] else 200)
    assert (await rig.chat(key=stranger)).status == (429 if shared[1] else 200)


@on_loop
async def test_having_no_project_is_nothing_to_share(rig: Rig) -> None:
    limits = (RateLimit(Scope.PROJECT, 1, 60),)
    for tenant in (1, 2):
        key = rig.callers.add(tenant=tenant, project_id=None, rate_limits=limits)
        assert (await rig.chat(key=key)).status == 200


@on_loop
async def test_who_works_for_two_tenants_has_two_allowances(rig: Rig) -> None:
    limits = (RateLimit(Scope.KEY, 1, 60),)
    person = {"key_public_id": "", "user_public_id": "usr_1", "rate_limits": limits}
    one, two = (rig.callers.add(tenant=tenant, **person) for tenant in (1, 2))
    assert [(await rig.chat(key=key)).status for key in (one, two, one)] == [200, 200, 429]


@on_loop
async def test_an_address_has_its_own_allowance(rig: Rig) -> None:
    key = rig.callers.add(rate_limits=(RateLimit(Scope.IP, 1, 60),))
    assert (await rig.chat(key=key, peer="192.0.2.1")).status == 200
    assert (await rig.chat(key=key, peer="192.0.2.1")).status == 429
    assert (await rig.chat(key=key, peer="192.0.2.2")).status == 200


@on_loop
async def test_a_limit_on_other_operations_is_no_concern(rig: Rig) -> None:
    limit = RateLimit(Scope.KEY, 1, 60, frozenset({"embeddings"}))
    key = rig.callers.add(rate_limits=(limit,))
    for _ in range(3):
        client = await rig.chat(key=key)
        assert client.status == 200
        assert "ratelimit" not in client.headers


@on_loop
async def test_a_refused_call_takes_nothing_from_the_other_limits(rig: Rig) -> None:
    limits = (RateLimit(Scope.KEY, 1, 60), RateLimit(Scope.TENANT, 2, 3600))
    one, two = (rig.callers.add(rate_limits=limits) for _ in range(2))
    statuses = [(await rig.chat(key=key)).status for key in (one, one, one, two, two)]
    assert statuses == [200, 429, 429, 200, 429]


@on_loop
async def test_a_call_that_asks_for_nothing_sensible_takes_no_allowance(rig: Rig) -> None:
    key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 1, 60),))
    assert (await rig.chat(key=key, model="nobody")).status == 404
    assert (await rig.chat(key=key, messages=[])).status == 400
    assert (await rig.chat(key=key)).status == 200
