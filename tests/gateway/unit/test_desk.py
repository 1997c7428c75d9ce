"""What staff ask of the data path: who would serve a call, without serving it, and one call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from accounts.credentials import HouseCredential
from accounts.identity import HOUSE, Identity, Record
from gateway import desk as desks
from gateway.desk import Desk
from lib.problems import InvalidRequest, NotFound
from providers.breaker import Override, State
from providers.prices import Prices
from providers.snapshot import CredentialSpec, TargetSpec
from tenants.keys import Mode
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    FOREVER,
    HELLO,
    Reply,
    Rig,
    chat,
    data_provider,
    failure,
    provider,
    route,
    slug_of,
    target,
    whole,
)
from tests.loops import eventually, on_loop

CHAT = "chat.completions"
ASKED = {"model": "m", "messages": HELLO}


def house(mode: Mode = Mode.LIVE) -> Identity:
    return Identity(kind="", mode=mode, scopes=frozenset({"*"}), tenant_id=HOUSE)


@pytest.fixture(autouse=True)
def of_the_house(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(HouseCredential, "find", lambda shown: Record(house(shown._mode)))
    yield


async def reasons(rig: Rig, identity: Identity | None = None, **params: Any) -> dict[str, str]:
    document = await Desk(rig.gateway).preview(identity or house(), CHAT, ASKED | params)
    return {each["provider"]: each["reason"] for each in document["targets"]}


@on_loop
async def test_the_first_that_could_would_serve_and_the_others_say_why_not(rig: Rig) -> None:
    drained = provider("drained", secrets={None: [CredentialSpec("crd_d", "sk", drained=True)]})
    bare = provider("bare", secrets={})
    blind = target("blind", capabilities=frozenset())
    able = frozenset({"tools"})
    others = [target(each, capabilities=able) for each in ("open", drained, bare, "good", "next")]
    overrides = {"open": Override(State.FORCED_OPEN, None, 1)}
    rig.serve(route(blind, *others), breaker_overrides=overrides)
    rig.gateway.dispatcher.breakers.apply(overrides)
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert await reasons(rig, tools=tools) == {
        "open": "circuit_open",
        "drained": "no_credential",
        "good": "would_serve",
        "next": "not_needed",
        "blind": "incapable",
        "bare": "no_credential",
    }


@on_loop
async def test_what_it_says_is_what_then_happens_and_it_asks_nobody(rig: Rig) -> None:
    overrides = {"one": Override(State.FORCED_OPEN, None, 1)}
    rig.serve(route(target("one"), target("two")), breaker_overrides=overrides)
    rig.gateway.dispatcher.breakers.apply(overrides)
    said = await reasons(rig)
    assert rig.upstreams.asked == [] and rig.journal.finals == []
    answer = await rig.chat()
    assert answer.headers["x-patchbay-provider"] == "two"
    assert said == {"one": "circuit_open", "two": "would_serve"}


@on_loop
async def test_whose_breaker_it_is_is_told(rig: Rig) -> None:
    overrides = {name: Override(State.FORCED_OPEN, None, 1) for name in ("one", "two/gpt-x")}
    rig.serve(route(target("one"), target("two")), breaker_overrides=overrides)
    rig.gateway.dispatcher.breakers.apply(overrides)
    document = await Desk(rig.gateway).preview(house(), CHAT, ASKED)
    details = [each["detail"] for each in document["targets"]]
    assert details == ["the breaker of one", "the breaker of two/gpt-x"]


@on_loop
async def test_a_credential_that_rests_is_told_with_how_long(rig: Rig) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=lambda: whole({}, 429, **{"retry-after": "30"}))
    await rig.chat()
    document = await Desk(rig.gateway).preview(house(), CHAT, ASKED)
    told = {each["provider"]: each for each in document["targets"]}
    assert told["one"]["reason"] == "credential_rests" and "30 s" in told["one"]["detail"]
    assert told["two"]["reason"] == "would_serve"


@on_loop
async def test_a_hard_quota_that_is_used_up_is_told_and_a_soft_one_is_not(rig: Rig) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, 1)
    soft = replace(quota, hard=False)
    rig.serve(
        route(target(provider("one", quotas=(quota,))), target(provider("two", quotas=(soft,))))
    )
    for _ in range(3):
        assert (await rig.chat()).status == 200
    await rig.settled()
    document = await Desk(rig.gateway).preview(house(), CHAT, ASKED)
    told = {each["provider"]: each for each in document["targets"]}
    assert told["one"]["reason"] == "quota" and "1 of 1" in told["one"]["detail"]
    assert told["two"]["reason"] == "would_serve"


async def looked(rig: Rig, identity: Identity | None = None) -> dict[str, Any]:
    document: dict[str, Any] = await Desk(rig.gateway).preview(identity or house(), CHAT, ASKED)
    return document


@on_loop
async def test_a_rate_limit_that_is_reached_is_told_with_how_long(rig: Rig) -> None:
    minute = RateLimit(Scope.PROVIDER, 1, 60)
    rig.serve(route(target(provider("one", rate_limits=(minute,))), target("two")))
    before = await looked(rig)
    assert [each["reason"] for each in before["targets"]] == ["would_serve", "not_needed"]
    assert (await rig.chat()).headers["x-patchbay-provider"] == "one"
    one, two = (await looked(rig))["targets"]
    assert (one["reason"], two["reason"]) == ("rate_limit", "would_serve")
    assert "provider-minute: 1 of 1, for 6" in one["detail"]
    assert (await rig.chat()).headers["x-patchbay-provider"] == "two"
    rig.clock.advance(70)
    assert (await looked(rig))["targets"][0]["reason"] == "would_serve"


@on_loop
async def test_a_bulkhead_that_is_full_is_told_while_it_is(rig: Rig) -> None:
    both = RateLimit(Scope.PROVIDER, 1, 0, metric=LimitMetric.CONCURRENCY)
    rig.serve(route(target(provider("one", rate_limits=(both,))), target("two")))
    rig.upstreams.by_provider(one=lambda: Reply([FOREVER]))
    waits = asyncio.create_task(rig.chat())
    await eventually(lambda: bool(rig.upstreams.asked))
    assert [each["reason"] for each in (await looked(rig))["targets"]] == [
        "bulkhead",
        "would_serve",
    ]
    waits.cancel()
    await asyncio.wait([waits])
    assert (await looked(rig))["targets"][0]["reason"] == "would_serve"


@on_loop
async def test_looking_uses_up_nothing(rig: Rig) -> None:
    minute = RateLimit(Scope.PROVIDER, 1, 60)
    day = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, 1)
    rig.serve(route(target(provider("one", rate_limits=(minute,), quotas=(day,)))))
    for _ in range(3):
        assert (await looked(rig))["targets"][0]["reason"] == "would_serve"
    assert (await rig.chat()).status == 200


@on_loop
async def test_of_a_quota_that_is_left_but_too_little_it_says_what_is_needed(rig: Rig) -> None:
    tokens = Quota(QuotaScope.PROVIDER, Metric.TOKENS, Window.DAY, 10)
    rig.serve(route(target(provider("one", quotas=(tokens,)))))
    (one,) = (await looked(rig))["targets"]
    assert one["reason"] == "quota" and "0 of 10; this call may need" in one["detail"]


@on_loop
async def test_a_tenants_own_limits_are_told_apart_from_the_providers(rig: Rig) -> None:
    spent = (Quota(QuotaScope.TENANT, Metric.REQUESTS, Window.DAY, 1),)
    caller = replace(house(), tenant_id=1, tenant_public_id="ten_1", quotas=spent)
    rig.serve(route(target("one")))
    assert (await looked(rig, caller))["refusal"] == ""
    key = rig.callers.add(quotas=spent)
    assert (await rig.chat(key=key)).status == 200
    await rig.settled()
    document = await looked(rig, caller)
    assert "tenant-requests-day" in document["refusal"]
    assert document["targets"][0]["reason"] == "would_serve"


@pytest.mark.parametrize("strategy", ["weighted", "latency", "cost", "quality", "adaptive"])
@on_loop
async def test_the_order_is_that_of_the_call_that_comes_next(strategy: str, rig: Rig) -> None:
    """By prices, by whose turn it is, by what was learned; and drawn by the same dice."""
    slow = {"one": 9.0, "two": 0.1, "three": 3.0}
    prices = {f"{name}/gpt-x": Prices(int(n * 1e6), int(n * 1e6)) for name, n in slow.items()}

    def answer(request: Any) -> Reply:
        name = slug_of(request)
        rig.clock.advance(slow[name])
        return chat("" if name == "one" else "well")

    rig.serve(route(*map(target, slow), strategy=strategy), prices=prices)
    rig.upstreams.script = answer
    orders = set()
    for seed in range(20):
        rig.gateway.arranger.random = Random(seed)
        said = [each["provider"] for each in (await looked(rig))["targets"]]
        rig.gateway.arranger.random = Random(seed)
        answered = await rig.chat(headers={"x-patchbay-explain": "true"})
        assert answered.status == 200
        explained = json.loads(answered.headers["x-patchbay-explain"])
        assert [each["provider"] for each in explained["targets"]] == said
        orders.add(tuple(said))
    assert orders != {tuple(slow)}


@on_loop
async def test_looking_takes_no_turn_of_a_weighted_route(rig: Rig) -> None:
    rig.serve(route(target("a"), target("b"), strategy="weighted"))
    seen = []
    for _ in range(4):
        said = [await reasons(rig) for _ in range(3)]
        assert said[0] == said[1] == said[2]
        seen.append(next(name for name, reason in said[0].items() if reason == "would_serve"))
        assert (await rig.chat()).headers["x-patchbay-provider"] == seen[-1]
    assert seen == ["a", "b", "a", "b"]


@on_loop
async def test_in_test_mode_the_sandbox_serves_whoever_has_no_credential(rig: Rig) -> None:
    rig.serve(route(target(provider("bare", secrets={}))))
    assert await reasons(rig, house(Mode.TEST)) == {"bare": "would_serve"}


@on_loop
async def test_what_a_caller_would_be_refused_is_refused(rig: Rig) -> None:
    desk = Desk(rig.gateway)
    with pytest.raises(InvalidRequest):
        await desk.preview(house(), CHAT, {"model": "m", "messages": "none"})
    with pytest.raises(NotFound):
        await desk.preview(house(), CHAT, {**ASKED, "model": "nobody's"})
    with pytest.raises(NotFound):
        await desk.preview(house(), "no.operation", {})


@on_loop
async def test_a_test_call_is_the_houses_and_has_a_row(rig: Rig) -> None:
    told = await Desk(rig.gateway).call(CHAT, ASKED, Mode.LIVE)
    assert (told["status"], json.loads(told["body"])["object"]) == (200, "chat.completion")
    assert told["headers"]["x-patchbay-provider"] == "lab"
    row = rig.final.record
    assert (row.tenant_id, row.key_id, row.mode, row.status) == (HOUSE, None, "live", 200)
    assert row.cost > 0
    await Desk(rig.gateway).call(CHAT, ASKED, Mode.TEST)
    assert rig.upstreams.sent[-1].url.startswith("http://sandbox.test/")


@on_loop
async def test_it_counts_in_the_providers_quota_like_any_call(rig: Rig) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, 1)
    rig.serve(route(target(provider("one", quotas=(quota,)))))
    desk = Desk(rig.gateway)
    assert (await desk.call(CHAT, ASKED, Mode.LIVE))["status"] == 200
    assert (await desk.call(CHAT, ASKED, Mode.LIVE))["status"] == 503
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_it_asks_the_provider_although_the_answer_is_kept(rig: Rig) -> None:
    fx = "finance.fx_rate"
    spec = TargetSpec(data_provider("frankfurter"))
    rig.serve(route(spec, operation=fx, name=fx, cache={"ttl": 300}))
    rig.upstreams.script = lambda request: whole(
        {"amount": 1.0, "base": "EUR", "date": "2027-01-15", "rates": {"SEK": 11.5}}
    )
    await rig.ask("/api/v1/finance/fx_rate?base=EUR&quote=SEK")
    params = {"base": "EUR", "quote": "SEK", "provider": "frankfurter", "fallback": False}
    assert (await Desk(rig.gateway).call(fx, params, Mode.LIVE))["status"] == 200
    assert len(rig.upstreams.sent) == 2


@on_loop
async def test_a_failure_is_told_as_a_caller_is_told(rig: Rig) -> None:
    rig.upstreams.script = lambda request: failure(400)
    told = await Desk(rig.gateway).call(CHAT, ASKED, Mode.LIVE)
    assert told["status"] >= 400 and "error" in json.loads(told["body"])


@on_loop
async def test_it_hangs_up_on_a_provider_that_does_not_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "PATIENCE", 0.01)
    rig.upstreams.script = lambda request: Reply([b"{", FOREVER])
    told = await asyncio.wait_for(Desk(rig.gateway).call(CHAT, ASKED, Mode.LIVE), 5)
    assert told["status"] != 200
    assert rig.upstreams.replies[-1].closed


@on_loop
async def test_of_a_huge_answer_only_the_beginning_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "MOST_BYTES", 50)
    told = await Desk(rig.gateway).call(CHAT, ASKED, Mode.LIVE)
    assert told["status"] == 200 and len(told["body"]) <= 50


@on_loop
async def test_of_sound_only_its_size_is_told(rig: Rig) -> None:
    speech = target("lab", "tts-1", operation="audio.speech", context=None, max_output=None)
    named = {("audio.speech", "tts-1"): route(speech)}
    rig.serve(*named.values())
    rig.gateway.live.snapshot = replace(rig.gateway.live.snapshot, routes=named)
    rig.upstreams.script = lambda request: Reply([b"\xff" * 7], 200, {"content-type": "audio/mpeg"})
    params = {"model": "tts-1", "voice": "alloy", "input": "Hello!"}
    told = await Desk(rig.gateway).call("audio.speech", params, Mode.LIVE)
    assert (told["status"], told["body"]) == (200, "7 bytes of audio/mpeg")


@on_loop
async def test_a_call_with_a_file_can_be_looked_at_without_one(rig: Rig) -> None:
    name = "audio.transcriptions"
    model = target("lab", "whisper-1", operation=name, context=None, max_output=None)
    served = replace(rig.gateway.live.snapshot, routes={(name, "whisper-1"): route(model)})
    rig.gateway.live.snapshot = served
    params = {"model": "whisper-1", "file": "recording.mp3"}
    document = await Desk(rig.gateway).preview(house(), name, params)
    assert [each["reason"] for each in document["targets"]] == ["would_serve"]
