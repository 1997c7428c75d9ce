"""Whom a call goes to and why: fitting models, whose credential, sessions, explanations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway import arranging, explanation
from gateway import sessions as sessions_module
from gateway.routing import Plan
from gateway.sessions import Sessions
from providers.prices import Prices
from providers.snapshot import ProviderSpec, TargetSpec
from tenants.keys import Mode
from tests.gateway.unit.rig import (
    COUNT,
    HELLO,
    Client,
    Rig,
    chat,
    data_target,
    event,
    failure,
    provider,
    route,
    stream,
    target,
    whole,
)
from tests.loops import on_loop

GEOCODE = "/api/v1/geo/geocode?q=Stockholm"
EXPLAIN = {"x-patchbay-explain": "true"}
PLACES = [{"id": 1, "name": "Stockholm", "latitude": 59.3, "longitude": 18.1}]


def sized(slug: str, context: int | None, **fields: Any) -> TargetSpec:
    return target(slug, context=context, **fields)


def said(length: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "x" * length}]


def explained(client: Client) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(client.headers["x-patchbay-explain"])
    return told


def reasons(told: Mapping[str, Any]) -> dict[str, str]:
    return {each["provider"]: each["reason"] for each in told["targets"]}


# A token is taken for three bytes, a message for eight tokens.
LENGTHS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "short": ({"messages": said(30)}, ["small"]),
    "at the limit": ({"messages": said(3 * 91)}, ["small"]),
    "one more": ({"messages": said(3 * 91 + 1)}, ["large"]),
    "output counts": ({"messages": said(30), "max_tokens": 83}, ["large"]),
    "output fits": ({"messages": said(30), "max_tokens": 82}, ["small"]),
    "the other name of output": ({"messages": said(30), "max_completion_tokens": 83}, ["large"]),
    "tools count": (
        {
            "messages": said(30),
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f" * 300, "parameters": {"type": "object"}},
                }
            ],
        },
        ["large"],
    ),
    "an image counts": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "https://a.test/c.png"}}
                    ],
                }
            ]
        },
        ["large"],
    ),
    "what is written long and is short": ({"messages": HELLO, "user": "x" * 900}, ["small"]),
    "only the unknown is left": ({"messages": said(3 * 20_000)}, ["unknown"]),
}


@pytest.mark.parametrize("strategy", ["priority", "latency", "cost"])
@pytest.mark.parametrize(("ask", "expected"), LENGTHS.values(), ids=LENGTHS.keys())
@on_loop
async def test_a_prompt_goes_to_no_model_that_it_is_too_long_for(
    rig: Rig, ask: dict[str, Any], expected: list[str], strategy: str
) -> None:
    can = {"capabilities": frozenset({"tools", "vision"})}
    rig.serve(
        route(
            sized("small", 100, **can),
            sized("large", 10_000, **can),
            sized("unknown", None, **can),
            strategy=strategy,
        )
    )
    assert (await rig.chat(**ask)).status == 200
    if strategy == "priority":
        assert rig.upstreams.asked == expected
    else:
        order = ["small", "large", "unknown"]
        assert order.index(rig.upstreams.asked[0]) >= order.index(expected[0])


@on_loop
async def test_a_prompt_too_long_for_all_is_the_callers_to_shorten(rig: Rig) -> None:
    rig.serve(route(sized("small", 100), sized("smaller", 50)))
    client = await rig.chat(messages=said(1000))
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert client.error["param"] == "messages"
    assert rig.upstreams.sent == [] and rig.journal.entries == []


def owned(slug: str, *tenants: int | None, **fields: Any) -> ProviderSpec:
    """A provider with a credential of each tenant (None: the house)."""
    return provider(slug, secrets={tenant: f"sk-{slug}-{tenant}" for tenant in tenants}, **fields)


def keyless(slug: str) -> ProviderSpec:
    return provider(slug, secrets={}, needs_credential=False)


# Targets by whose credentials they have; then whom tenant 1 may be served by, in order.
CREDENTIALS: dict[str, tuple[list[ProviderSpec], str, bool, list[str]]] = {
    "own, then the house's": ([owned("a", 1), owned("b", None)], "priority", False, ["a"]),
    "allowed": ([owned("a", 1), owned("b", None)], "priority", True, ["a", "b"]),
    "own, then own": ([owned("a", 1), owned("b", 1, None)], "priority", False, ["a", "b"]),
    "own is used where there is one": ([owned("a", 1, None)], "priority", False, ["a"]),
    "the house's, then own": ([owned("a", None), owned("b", 1)], "priority", False, ["a", "b"]),
    "never back": (
        [owned("a", None), owned("b", 1), owned("c", None)],
        "priority",
        False,
        ["a", "b"],
    ),
    "nobody's is no one's": ([owned("a", 1), keyless("b")], "priority", False, ["a", "b"]),
    "another tenant's is not own": ([owned("a", 2), owned("b", None)], "priority", False, ["b"]),
    "the house's only": ([owned("a", None), owned("b", None)], "priority", False, ["a", "b"]),
    "a strategy may not begin on the house's": (
        [owned("a", None), owned("b", 1)],
        "weighted",
        False,
        ["b"],
    ),
    "unless it is allowed": (
        [owned("a", None), owned("b", 1)],
        "weighted",
        True,
        ["a", "b"],
    ),
}


@pytest.mark.parametrize(
    ("providers", "strategy", "allowed", "expected"), CREDENTIALS.values(), ids=CREDENTIALS.keys()
)
@on_loop
async def test_what_begins_on_the_tenants_credential_never_ends_on_the_houses(
    rig: Rig, providers: list[ProviderSpec], strategy: str, allowed: bool, expected: list[str]
) -> None:
    rig.serve(route(*map(target, providers), strategy=strategy))
    rig.upstreams.script = lambda request: failure()
    key = rig.callers.add(tenant=1, allow_house_fallback=allowed)
    for _ in range(3):
        rig.upstreams.sent.clear()
        await rig.chat(key=key, headers=EXPLAIN)
        asked = rig.upstreams.asked
        assert (sorted(asked) if strategy == "weighted" else asked) == expected
        shown = [request.headers.get("authorization", "") for request in rig.upstreams.sent]
        own = [text.endswith("-1") for text in shown]
        houses = [text.endswith("-None") for text in shown]
        if not allowed and True in own:
            assert True not in houses[own.index(True) :]


@on_loop
async def test_an_open_breaker_opens_no_way_to_the_house(rig: Rig) -> None:
    rig.serve(route(*map(target, [owned("a", 1), owned("b", None)])))
    rig.upstreams.by_provider(a=failure)
    for _ in range(8):
        client = await rig.chat()
        assert client.status in (502, 503)
    assert set(rig.upstreams.asked) == {"a"}
    assert client.error["code"] == "circuit_open"


@on_loop
async def test_a_tenants_own_bad_credential_lowers_nobodys_score(rig: Rig) -> None:
    rig.serve(route(target(owned("a", 1, None))))
    rig.upstreams.script = lambda request: failure(401)
    await rig.chat()
    assert rig.gateway.scores.as_documents() == {}
    await rig.chat(key=rig.callers.add(tenant=2))
    assert rig.gateway.scores.as_documents()["a/gpt-x"]["success_rate"] == 0.0


@on_loop
async def test_scores_are_fed_by_every_kind_of_end(rig: Rig) -> None:
    rig.serve(route(target("lab")), prices={"lab/gpt-x": Prices(1_000_000, 2_000_000)})
    await rig.chat()
    rig.upstreams.script = lambda request: stream()
    await rig.chat(stream=True)
    told = rig.gateway.scores.as_documents()["lab/gpt-x"]
    assert (told["success_rate"], told["quality"], told["calls"]) == (1.0, 1.0, 2.0)
    assert told["seconds"] is not None and told["first_byte_seconds"] is not None
    assert told["cost_microusd"] == 13
    rig.upstreams.script = lambda request: stream(event("hel"))
    await rig.chat(stream=True)
    assert rig.gateway.scores.as_documents()["lab/gpt-x"]["success_rate"] < 0.7
    rig.upstreams.script = lambda request: failure(400)
    before = rig.gateway.scores.as_documents()
    await rig.chat()
    assert rig.gateway.scores.as_documents() == before, "the caller's fault is not the target's"


@on_loop
async def test_quality_is_noted(rig: Rig) -> None:
    rig.serve(route(target("lab", capabilities=frozenset({"json_schema"}))))
    await rig.chat(response_format={"type": "json_object"})
    assert rig.gateway.scores.as_documents()["lab/gpt-x"]["quality"] == 0.0
    answer = stream(event('{"n"'), event(": 1}"), event(), event(usage=COUNT), b"data: [DONE]\n\n")
    rig.upstreams.script = lambda request: answer
    await rig.chat(response_format={"type": "json_object"}, stream=True)
    assert rig.gateway.scores.as_documents()["lab/gpt-x"]["quality"] == 0.5


@on_loop
async def test_test_mode_moves_nobody_elses_score(rig: Rig) -> None:
    rig.upstreams.script = lambda request: failure()
    await rig.chat(key=rig.callers.add(tenant=9, mode=Mode.TEST))
    assert list(rig.gateway.scores.as_documents()) == ["test:9:lab/gpt-x"]


@on_loop
async def test_the_faster_is_found_over_whole_calls(rig: Rig) -> None:
    """Latency as the gateway itself measures it, on its own clock."""
    rig.serve(route(target("slow"), target("fast"), strategy="latency"))
    pace = {"slow": 0.9, "fast": 0.1}

    def answer(request: Any) -> Any:
        rig.clock.advance(pace[rig.upstreams.asked[-1]])
        return chat()

    rig.upstreams.script = answer
    for _ in range(30):
        await rig.chat()
    assert set(rig.upstreams.asked[10:]) == {"fast"}
    pace["fast"] = 4.0
    for _ in range(60):
        await rig.chat()
    assert set(rig.upstreams.asked[-20:]) == {"slow"}


@on_loop
async def test_cost_follows_the_live_book(rig: Rig) -> None:
    dear, cheap = Prices(9_000_000, 9_000_000), Prices(1_000_000, 1_000_000)
    targets = route(target("one"), target("two"), strategy="cost")
    rig.serve(targets, prices={"one/gpt-x": dear, "two/gpt-x": cheap})
    await rig.chat()
    rig.serve(targets, prices={"one/gpt-x": cheap, "two/gpt-x": dear})
    await rig.chat()
    assert rig.upstreams.asked == ["two", "one"]


@on_loop
async def test_who_rests_comes_last_whatever_the_strategy(rig: Rig) -> None:
    rig.serve(route(target("a", weight=9), target("b"), strategy="weighted"))
    rig.upstreams.by_provider(a=failure)
    for _ in range(12):
        await rig.chat()
    rig.upstreams.sent.clear()
    client = await rig.chat(headers=EXPLAIN)
    assert rig.upstreams.asked == ["b"]
    assert [each["provider"] for each in explained(client)["targets"]] == ["b", "a"]


@on_loop
async def test_weights_are_shared_by_all_callers_of_a_route(rig: Rig) -> None:
    rig.serve(route(target("a", weight=3), target("b"), strategy="weighted"))
    keys = [rig.callers.add(tenant=tenant) for tenant in range(1, 9)]
    for key in keys:
        await rig.chat(key=key)
    assert sorted(rig.upstreams.asked) == ["a"] * 6 + ["b"] * 2


@on_loop
async def test_fallback_may_be_forbidden_to_any_strategy(rig: Rig) -> None:
    slugs = ("open-meteo-geocoding", "photon")
    targets = [
        replace(data_target(slug), weight=weight)
        for slug, weight in zip(slugs, (1, 5), strict=True)
    ]
    rig.serve(route(*targets, operation="geo.geocode", name="geo.geocode", strategy="weighted"))
    rig.upstreams.script = lambda request: failure(503)
    client = await rig.ask(f"{GEOCODE}&fallback=false&explain=true")
    assert rig.upstreams.asked == ["photon"]
    assert reasons(client.json["explain"]) == {
        "photon": "upstream_unavailable",
        "open-meteo-geocoding": "no_fallback",
    }


@on_loop
async def test_a_target_may_be_named_twice(rig: Rig) -> None:
    twice = (data_target("photon"), data_target("photon"))
    for strategy in ("priority", "weighted", "adaptive"):
        rig.serve(route(*twice, operation="geo.geocode", name="geo.geocode", strategy=strategy))
        rig.upstreams.script = lambda request: failure(401)
        rig.upstreams.sent.clear()
        await rig.ask(f"{GEOCODE}&fallback=false")
        assert rig.upstreams.asked == ["photon"]
        await rig.ask(GEOCODE)
        assert rig.upstreams.asked == ["photon"] * 3


# --- sessions


@on_loop
async def test_a_session_stays_where_it_is_while_that_is_healthy(rig: Rig) -> None:
    rig.serve(route(target("a"), target("b"), target("c"), strategy="weighted"))
    mine = {"x-patchbay-session": "chat-1"}
    for _ in range(6):
        client = await rig.chat(headers=mine)
    assert len(set(rig.upstreams.asked)) == 1
    home = rig.upstreams.asked[0]
    assert not explained(await rig.chat(headers=EXPLAIN))["session"]
    client = await rig.chat(headers=mine | EXPLAIN)
    assert explained(client)["session"] is True
    rig.upstreams.by_provider(**{home: failure})
    rig.upstreams.sent.clear()
    for _ in range(4):
        assert (await rig.chat(headers=mine)).status == 200
    away = rig.upstreams.asked[1]
    assert rig.upstreams.asked == [home, away, away, away, away], "it moves, and stays there"


@on_loop
async def test_a_session_is_its_tenants_and_its_routes(rig: Rig) -> None:
    targets = (target("a"), target("b"))
    rig.serve(route(*targets, strategy="weighted"), route(*targets, name="n", strategy="weighted"))
    mine = {"x-patchbay-session": "same"}
    for tenant in (1, 2, 3, 4):
        for mode in Mode:
            await rig.chat(key=rig.callers.add(tenant=tenant, mode=mode), headers=mine)
    await rig.chat(model="n", headers=mine)
    assert len(rig.gateway.arranger.sessions) == 9


@on_loop
async def test_a_session_brings_no_house_credential_behind_the_own(rig: Rig) -> None:
    rig.serve(route(*map(target, [owned("a", None), owned("b", 1)])))
    mine = {"x-patchbay-session": "s"}
    rig.upstreams.by_provider(a=failure)
    await rig.chat(headers=mine)
    assert rig.upstreams.asked == ["a", "b"]
    rig.upstreams.by_provider(b=failure)
    rig.upstreams.sent.clear()
    client = await rig.chat(headers=mine | EXPLAIN)
    assert rig.upstreams.asked == ["b"]
    assert reasons(explained(client))["a"] == "house_credential"


@on_loop
async def test_a_sessions_name_is_short(rig: Rig) -> None:
    assert (await rig.chat(headers={"x-patchbay-session": "x" * 200})).status == 200
    client = await rig.chat(headers={"x-patchbay-session": "x" * 201})
    assert (client.status, client.error["code"]) == (400, "invalid_request")


def test_sessions_are_bounded_and_the_last_used_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MAX_SESSIONS", 10)
    sessions = Sessions()
    for number in range(100):
        sessions.keep(b"%d" % number, "lab")
        sessions.keep(b"steady", "lab")
    assert len(sessions) == 10
    assert sessions.target(b"steady") == sessions.target(b"99") == "lab"
    assert sessions.target(b"0") == ""


# --- explanations


@on_loop
async def test_each_target_is_explained_once_with_one_reason(rig: Rig) -> None:
    can = {"capabilities": frozenset({"tools"})}
    claude = target(provider("claude", "anthropic"), **can)
    rig.serve(
        route(
            target("plain"),
            target(provider("poor", secrets={}), **can),
            target("tiny", context=9, **can),
            claude,
            target("broken", **can),
            target("lab", **can),
            target("spare", **can),
        )
    )
    rig.upstreams.by_provider(broken=failure)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    client = await rig.chat(tools=tools, logit_bias={"50256": -100}, headers=EXPLAIN)
    assert client.status == 200
    told = explained(client)
    assert len(told["targets"]) == 7
    assert reasons(told) == {
        "claude": "unsupported",
        "broken": "upstream_unavailable",
        "lab": "served",
        "spare": "not_needed",
        "plain": "incapable",
        "poor": "no_credential",
        "tiny": "too_long",
    }
    assert [each["place"] for each in told["targets"]] == [1, 2, 3, 4, None, None, None]
    assert told["strategy"] == "priority"
    assert "sk-" not in client.headers["x-patchbay-explain"]
    assert set(client.json) == {"id", "object", "created", "model", "choices", "usage"}


@on_loop
async def test_only_who_asks_is_told(rig: Rig) -> None:
    assert "x-patchbay-explain" not in (await rig.chat()).headers
    assert (
        "x-patchbay-explain" not in (await rig.chat(headers={"x-patchbay-explain": "no"})).headers
    )


@on_loop
async def test_streams_and_refusals_are_explained_too(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    assert reasons(explained(await rig.chat(stream=True, headers=EXPLAIN))) == {"lab": "served"}
    rig.upstreams.script = lambda request: failure()
    client = await rig.chat(headers=EXPLAIN)
    assert client.status in (502, 503)
    assert reasons(explained(client)) == {"lab": "upstream_unavailable"}


@pytest.mark.parametrize("strategy", ["weighted", "latency", "cost", "quality", "adaptive"])
@on_loop
async def test_data_operations_have_it_in_their_meta(rig: Rig, strategy: str) -> None:
    targets = (data_target("photon"), data_target("open-meteo-geocoding"))
    rig.serve(route(*targets, operation="geo.geocode", name="geo.geocode", strategy=strategy))
    rig.upstreams.by_provider()
    rig.upstreams.script = lambda request: (
        whole({"results": PLACES}) if "open-meteo" in request.url else failure(503)
    )
    for _ in range(8):
        client = await rig.ask(f"{GEOCODE}&explain=true")
    assert client.status == 200, client.body
    told = client.json["meta"]["explain"]
    assert told["strategy"] == strategy
    assert reasons(told)["open-meteo-geocoding"] == "served"
    assert sorted(reasons(told)) == ["open-meteo-geocoding", "photon"]
    assert "explain" not in (await rig.ask(GEOCODE)).json["meta"]


@on_loop
async def test_the_header_is_bounded(rig: Rig) -> None:
    many = [target(f"provider-{number}", model="ö" * 100) for number in range(60)]
    rig.serve(route(*many))
    client = await rig.chat(headers=EXPLAIN)
    text = client.headers["x-patchbay-explain"]
    assert len(text) <= explanation.MAX_HEADER and text.isascii()
    told = json.loads(text)
    assert len(told["targets"]) + told["left_out"] == 60
    assert told["targets"][0]["reason"] == "served"


@on_loop
async def test_a_call_that_asks_for_nothing_makes_no_estimate_and_no_order(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The priority path costs what it did: the remembered plan is used as it is."""
    seen: list[Plan] = []

    def unneeded(*_: Any, **__: Any) -> Any:
        raise AssertionError("not for priority")

    arrange = arranging.Arranger.arrange

    def watched(self: Any, plan: Plan, *args: Any, **kwargs: Any) -> Plan:
        arranged = arrange(self, plan, *args, **kwargs)
        assert arranged is plan
        seen.append(plan)
        return arranged

    monkeypatch.setattr(arranging, "order", unneeded)
    monkeypatch.setattr(arranging, "estimated", unneeded)
    monkeypatch.setattr(arranging.Arranger, "arrange", watched)
    rig.serve(route(target("one"), target("two")))
    await rig.chat()
    await rig.chat()
    assert seen[0] is seen[1]
