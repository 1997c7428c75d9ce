"""Calls that are refused before anything is tried are counted for whose they are, and no others."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tenants.limits import RateLimit, Scope
from tests.gateway.unit.rig import Rig, failure
from tests.loops import on_loop
from usage.refusals import Kind

pytestmark = pytest.mark.usefixtures("rig")


def noted(rig: Rig) -> dict[Kind, int]:
    return {kind: count.calls for (_, kind), count in rig.gateway.refusals._counts.items()}


def kind(code: str, limit: str = "", *, key: int = 1, **fields: Any) -> Kind:
    return Kind(1, key, "live", "chat.completions", code, limit)._replace(**fields)


@on_loop
async def test_a_limit_that_is_full_is_named(rig: Rig) -> None:
    limit = RateLimit(Scope.KEY, 1, 60)
    key = rig.callers.add(rate_limits=(limit,))
    answers = [await rig.chat(key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 429, 429]
    assert noted(rig) == {kind("rate_limit_exceeded", limit.name, key=2): 2}
    ((_, count),) = rig.gateway.refusals._counts.items()
    assert count.request_id == answers[-1].headers["x-request-id"]


@on_loop
async def test_whatever_was_wrong_with_a_call_or_its_key(rig: Rig) -> None:
    await rig.chat(model="nothing")
    await rig.chat(key=rig.callers.add(scopes=frozenset({"embeddings"})))
    await rig.chat(key=rig.callers.add(networks=(ipaddress.ip_network("10.0.0.0/8"),)))
    await rig.chat(key=rig.callers.add(revoked=True))
    await rig.ask(path="/api/v1/models/nothing")
    assert noted(rig) == {
        kind("not_found"): 1,
        kind("insufficient_scope", key=2): 1,
        kind("ip_not_allowed", key=3): 1,
        kind("key_revoked", key=4): 1,
        kind("not_found", operation="models"): 1,
    }


@on_loop
async def test_of_what_is_nobodys_or_in_the_ledger_nothing_is_noted(rig: Rig) -> None:
    key = rig.callers.add()
    forged = f"{key[:-4]}AAAA"
    await rig.chat()
    await rig.chat(key=None)
    await rig.chat(key=forged)
    rig.upstreams.script = lambda request: failure()
    answer = await rig.chat()
    assert answer.status >= 500 and len(rig.journal.finals) == 2
    assert noted(rig) == {}
