"""Who is asked, in which order, with whose secret, and what a caller learns of the rest."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from gateway import routing
from providers.timeouts import Timeouts
from tenants.keys import Mode
from tests.gateway.unit.rig import (
    FOREVER,
    SANDBOX,
    Client,
    Rig,
    data_target,
    failure,
    provider,
    route,
    stream,
    target,
)
from tests.loops import on_loop

GEOCODE = "/api/v1/geo/geocode?q=Stockholm"
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.test/cat.png"}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]

ASKS: dict[str, dict[str, Any]] = {
    "tools": {"tools": TOOLS},
    "vision": {"messages": [{"role": "user", "content": IMAGE}]},
    "json_schema": {"response_format": SCHEMA},
}


def outcomes(client: Client) -> list[tuple[str, str]]:
    return [(a["provider"], a["outcome"]) for a in client.error["attempts"]]


def authorization(rig: Rig) -> list[str]:
    return [request.headers["authorization"] for request in rig.upstreams.sent]


@pytest.mark.parametrize(("capability", "ask"), ASKS.items(), ids=ASKS.keys())
@on_loop
async def test_only_the_capable_are_asked(rig: Rig, capability: str, ask: dict[str, Any]) -> None:
    able = target("able", capabilities=frozenset({capability}))
    rig.serve(route(target("plain"), able))
    assert (await rig.chat(**ask)).status == 200
    assert (await rig.chat()).status == 200
    assert rig.upstreams.asked == ["able", "plain"]


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
@on_loop
async def test_nobody_is_capable(rig: Rig, ask: dict[str, Any]) -> None:
    client = await rig.chat(**ask)
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert client.error["param"] == "model"
    assert rig.journal.entries == []


@on_loop
async def test_what_only_looks_like_a_need_is_none(rig: Rig) -> None:
    ask = {
        "tools": [],
        "response_format": {"type": "json_object"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "image_url"}]}],
    }
    assert (await rig.chat(**ask)).status == 200


@on_loop
async def test_who_has_no_credential_is_skipped_and_named(rig: Rig) -> None:
    rig.serve(route(target(provider("poor", secrets={})), target("lab")))
    rig.upstreams.by_provider(lab=failure)
    client = await rig.chat()
    assert rig.upstreams.asked == ["lab"]
    assert outcomes(client) == [("lab", "upstream_unavailable"), ("poor", "skipped_no_credential")]


@on_loop
async def test_nobody_has_a_credential(rig: Rig) -> None:
    rig.serve(route(*(target(provider(slug, secrets={})) for slug in ("one", "two"))))
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert outcomes(client) == [("one", "skipped_no_credential"), ("two", "skipped_no_credential")]
    assert rig.journal.entries == []


@on_loop
async def test_a_missing_credential_is_our_fault_and_not_the_callers(rig: Rig) -> None:
    able = target(provider("able", secrets={}), capabilities=frozenset({"tools"}))
    rig.serve(route(target("plain"), able))
    client = await rig.chat(tools=TOOLS)
    assert client.status == 503
    assert outcomes(client) == [("plain", "skipped_incapable"), ("able", "skipped_no_credential")]


@on_loop
async def test_a_provider_without_need_of_a_credential(rig: Rig) -> None:
    rig.serve(route(target(provider("open", secrets={}, needs_credential=False))))
    assert (await rig.chat()).status == 200
    assert "authorization" not in rig.upstreams.sent[0].headers


@on_loop
async def test_no_tenants_credential_ever_serves_another(rig: Rig) -> None:
    """Whatever the order of callers, and whatever of their plans is remembered."""
    chance = random.Random(11)
    secrets: dict[str, dict[int | None, str]] = {
        "house": {None: "sk-house"},
        "mixed": {None: "sk-mixed", 1: "sk-mixed-1", 2: "sk-mixed-2"},
        "own": {2: "sk-own-2", 3: "sk-own-3"},
    }
    for slug, held in secrets.items():
        rig.serve(route(target(provider(slug, secrets=held))))
        callers = {tenant: rig.callers.add(tenant=tenant) for tenant in (1, 2, 3)}
        for tenant in chance.choices([1, 2, 3], k=30):
            rig.upstreams.sent.clear()
            client = await rig.chat(key=callers[tenant])
            secret = held.get(tenant) or held.get(None)
            assert client.status == (200 if secret else 503)
            assert authorization(rig) == ([f"Bearer {secret}"] if secret else [])


@on_loop
async def test_test_keys_meet_the_sandbox_and_carry_no_secret(rig: Rig) -> None:
    key = rig.callers.add(mode=Mode.TEST)
    assert (await rig.chat(key=key)).status == 200
    assert (await rig.chat()).status == 200
    test, live = rig.upstreams.sent
    assert test.url == f"{SANDBOX}/lab/v1/chat/completions"
    assert live.url == "https://lab.test/v1/chat/completions"
    assert "sk-lab" not in str(test)
    assert rig.upstreams.private == [True, False]


@on_loop
async def test_test_keys_without_a_sandbox(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(sandbox_url="")
    client = await rig.chat(key=rig.callers.add(mode=Mode.TEST))
    assert client.status == 503
    assert rig.upstreams.sent == []


@on_loop
async def test_only_test_keys_may_script_faults(rig: Rig) -> None:
    script = {"x-sandbox-fault": "status=500", "x-sandbox-pace-ms": "5"}
    await rig.chat(headers=script)
    await rig.chat(headers=script, key=rig.callers.add(mode=Mode.TEST))
    live, test = rig.upstreams.sent
    assert not script.keys() & live.headers.keys()
    assert script.items() <= test.headers.items()


@on_loop
async def test_private_addresses_only_where_staff_say_so(rig: Rig) -> None:
    rig.serve(route(target(provider("near", allow_private_network=True))))
    await rig.chat()
    assert rig.upstreams.private == [True]


@on_loop
@pytest.mark.unmeasured
async def test_weights_are_shares_of_the_first_place(rig: Rig) -> None:
    targets = (target("big", weight=6), target("mid", weight=3), target("small", weight=1))
    rig.serve(route(*targets, strategy="weighted"))
    random.seed(4)
    for _ in range(600):
        await rig.chat()
    shares = Counter(rig.upstreams.asked)
    assert 300 < shares["big"] < 420
    assert 120 < shares["mid"] < 240
    assert 30 < shares["small"] < 100


@on_loop
async def test_a_weighted_route_falls_back_to_each_of_the_rest_once(rig: Rig) -> None:
    slugs = {"one", "two", "three"}
    rig.serve(route(*(target(slug) for slug in slugs), strategy="weighted"))
    rig.upstreams.script = lambda request: failure()
    client = await rig.chat()
    assert sorted(rig.upstreams.asked) == sorted(slugs)
    assert {name for name, _ in outcomes(client)} == slugs


@on_loop
async def test_priority_is_the_order_given(rig: Rig) -> None:
    rig.serve(route(target("one"), target("two"), target("three")))
    rig.upstreams.by_provider(one=failure, two=failure)
    client = await rig.chat()
    assert rig.upstreams.asked == ["one", "two", "three"]
    assert client.headers["x-patchbay-provider"] == "three"
    assert client.headers["x-patchbay-attempts"] == "3"


@on_loop
async def test_remembered_plans_are_bounded_and_never_wrong(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MAX_PLANS", 2)
    held = {tenant: f"sk-{tenant}" for tenant in range(1, 9)}
    rig.serve(route(target(provider("lab", secrets=held))))
    for tenant in [*range(1, 9), *range(1, 9)]:
        await rig.chat(key=rig.callers.add(tenant=tenant))
        assert authorization(rig)[-1] == f"Bearer sk-{tenant}"
    assert len(rig.gateway.live.snapshot.plans) <= 4


@on_loop
async def test_a_new_snapshot_is_in_force_with_the_next_call(rig: Rig) -> None:
    await rig.chat()
    rig.serve(route(target("other")))
    await rig.chat()
    assert rig.upstreams.asked == ["lab", "other"]


@on_loop
async def test_scopes(rig: Rig) -> None:
    scopes = {"chat.completions": 200, "chat.*": 200, "embeddings": 403, "health:read": 403}
    for scope, status in scopes.items():
        key = rig.callers.add(scopes=frozenset({scope}))
        client = await rig.chat(key=key)
        assert client.status == status
        assert status == 200 or client.error["code"] == "insufficient_scope"
    assert len(rig.journal.finals) == 2


@on_loop
async def test_what_is_not_served_is_not_found(rig: Rig) -> None:
    unknown = await rig.chat(model="x" * 200)
    assert (unknown.status, unknown.error["param"]) == (404, "model")
    assert "x" * 81 not in unknown.error["message"]
    assert (await rig.ask(GEOCODE)).status == 404
    rig.serve(route(name="m"))
    assert (await rig.chat()).status == 404
    rig.serve(route(target("lab")), disabled_operations=frozenset({"chat.completions"}))
    assert (await rig.chat()).status == 404
    assert rig.journal.entries == []


def geocoders(rig: Rig) -> None:
    targets = data_target("open-meteo-geocoding"), data_target("photon"), data_target("opencage")
    rig.serve(route(*targets, operation="geo.geocode", name="geo.geocode"))
    rig.upstreams.script = lambda request: failure(503)


@on_loop
async def test_a_wished_provider_is_the_only_one_asked(rig: Rig) -> None:
    geocoders(rig)
    client = await rig.ask(f"{GEOCODE}&provider=photon")
    assert rig.upstreams.asked == ["photon"]
    assert outcomes(client) == [("photon", "upstream_unavailable")]


@on_loop
async def test_a_wish_that_cannot_be_met(rig: Rig) -> None:
    geocoders(rig)
    unknown = await rig.ask(f"{GEOCODE}&provider=nobody")
    assert unknown.status == 400
    assert unknown.error["errors"][0]["pointer"] == "/provider"
    poor = await rig.ask(f"{GEOCODE}&provider=opencage")
    assert poor.status == 503
    assert ("opencage", "skipped_no_credential") in outcomes(poor)
    assert rig.upstreams.sent == []


@on_loop
async def test_fallback_may_be_forbidden(rig: Rig) -> None:
    geocoders(rig)
    client = await rig.ask(f"{GEOCODE}&fallback=false")
    assert rig.upstreams.asked == ["open-meteo-geocoding"]
    assert client.status == 503
    await rig.ask(GEOCODE)
    assert rig.upstreams.asked[1:] == ["open-meteo-geocoding", "photon"]


@on_loop
async def test_the_routes_timeouts_overrule_the_providers(rig: Rig) -> None:
    slow = provider("slow", timeouts=Timeouts(first_byte=25.0))
    rig.serve(route(target(slow), timeouts={"first_byte_ms": 20}))
    rig.upstreams.script = lambda request: stream(FOREVER)
    client = await rig.chat(stream=True)
    assert (client.status, client.error["code"]) == (504, "upstream_timeout")
