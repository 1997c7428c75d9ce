"""Several credentials of one provider: turns, rests, refusals, and whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.dispatch import SKIPS
from lib.stores import StoreAway
from providers import services
from providers.call import UpstreamRequest
from providers.retry_policy import RetryPolicy
from providers.snapshot import CredentialSpec
from tenants.keys import Mode
from tests.gateway.unit.rig import (
    HELLO,
    Client,
    Reply,
    Rig,
    chat,
    failure,
    held,
    provider,
    route,
    snapshot,
    target,
    whole,
)
from tests.loops import eventually, on_loop
from usage.models import Attempt


@pytest.fixture(autouse=True)
def drained(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """What was written to the database."""
    written: list[Mapping[str, str]] = []
    monkeypatch.setattr(services, "drain_credential", lambda **told: written.append(told))
    return written


def limited(wait: str | None = "20") -> Reply:
    headers = {} if wait is None else {"retry-after": wait}
    return whole({"error": {"message": "slow down"}}, 429, **headers)


def spent() -> Reply:
    return whole({"error": {"message": "no money", "code": "insufficient_quota"}}, 429)


def refused(status: int = 401) -> Reply:
    return whole({"error": {"message": "wrong key sk-abcdefgh"}}, status)


def secret_of(request: UpstreamRequest) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


class Keys:
    """An upstream that knows its keys: what each meets."""

    def __init__(self, rig: Rig, **meets: Callable[[], Any]) -> None:
        self.meets, self.used = meets, list[str]()
        rig.upstreams.script = self.answer

    def answer(self, request: UpstreamRequest) -> Any:
        self.used.append(secret_of(request))
        return self.meets.get(self.used[-1], chat)()

    def since(self) -> list[str]:
        used, self.used = self.used, []
        return used


def lab(*secrets: str, slug: str = "lab", **fields: Any) -> Any:
    return target(provider(slug, secrets={None: secrets, **fields.pop("own", {})}, **fields))


def outcomes(client: Client) -> list[tuple[str, str]]:
    return [(a["provider"], a["outcome"]) for a in client.error["attempts"]]


@on_loop
async def test_healthy_ones_take_turns(rig: Rig) -> None:
    rig.serve(route(lab("a", "b", "c")))
    keys = Keys(rig)
    for _ in range(6):
        await rig.chat()
    assert keys.used == ["a", "b", "c", "a", "b", "c"]


@pytest.mark.parametrize("status", [401, 403])
@on_loop
async def test_a_refusal_drains_that_one_and_the_next_answers_the_same_call(
    rig: Rig, drained: list[Any], status: int
) -> None:
    rig.serve(route(lab("a", "b", "c")))
    keys = Keys(rig, a=lambda: refused(status))
    with capture_logs() as lines:
        client = await rig.chat()
    assert client.status == 200
    assert keys.since() == ["a", "b"]
    assert [a.verdict for a in rig.final.attempts] == ["auth", "ok"]
    assert rig.waits == []
    (line,) = [line for line in lines if line["event"] == "credential_drained"]
    assert (line["log_level"], line["provider"], line["credential"]) == ("error", "lab", "crd_a")
    assert "sk-abcdefgh" not in str(line)
    await eventually(lambda: drained)
    assert [each["public_id"] for each in drained] == ["crd_a"]
    assert drained[0]["secret"] == "a"
    assert drained[0]["reason"].startswith(f"{status}: wrong key")
    assert "sk-abcdefgh" not in drained[0]["reason"]
    rig.clock.advance(10**6)
    for _ in range(4):
        await rig.chat()
    assert set(keys.since()) == {"b", "c"}


@pytest.mark.parametrize(
    ("limit", "rest"),
    [(limited, 20.0), (lambda: limited(None), 1.0), (spent, 1.0)],
    ids=["told", "untold", "spent"],
)
@on_loop
async def test_a_limit_rests_that_one_until_then(
    rig: Rig, drained: list[Any], limit: Any, rest: float
) -> None:
    rig.serve(route(lab("a", "b")))
    keys = Keys(rig, a=limit)
    assert (await rig.chat()).status == 200
    assert keys.since() == ["a", "b"]
    keys.meets.clear()
    rig.clock.advance(rest - 0.01)
    for _ in range(4):
        await rig.chat()
    assert keys.since() == ["b"] * 4
    rig.clock.advance(0.01)
    for _ in range(4):
        await rig.chat()
    assert set(keys.since()) == {"a", "b"}
    assert rig.waits == []
    assert drained == []


@on_loop
async def test_failures_of_the_service_try_no_other_credential(rig: Rig) -> None:
    rig.serve(route(lab("a", "b")))
    keys = Keys(rig, a=failure)
    assert (await rig.chat()).status == 503
    assert keys.used == ["a"]


@on_loop
async def test_when_all_rest_the_target_is_passed_over(rig: Rig) -> None:
    rig.serve(route(lab("a", "b"), lab("x", slug="two")))
    keys = Keys(rig, a=limited, b=lambda: limited("50"))
    assert (await rig.chat()).headers["x-patchbay-provider"] == "two"
    assert keys.since() == ["a", "b", "x"]
    client = await rig.ask(
        body={"model": "m", "messages": HELLO}, headers={"X-Patchbay-Explain": "true"}
    )
    assert keys.since() == ["x"]
    assert '"reason":"credential_rests"' in client.headers["x-patchbay-explain"]
    verdicts = [(a.provider, a.verdict) for a in rig.journal.finals[-1].attempts]
    assert verdicts == [("lab", "skipped_credential_rests"), ("two", "ok")]


@on_loop
async def test_when_nobody_may_be_tried_retry_after_is_true(rig: Rig) -> None:
    rig.serve(route(lab("a", "b"), lab("x", slug="two")))
    keys = Keys(rig, a=limited, b=lambda: limited("50"), x=lambda: limited("90"))
    first = await rig.chat()
    assert int(first.headers["retry-after"]) in (20, 21)
    rig.clock.advance(7.5)
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert outcomes(client) == [
        ("lab", "skipped_credential_rests"),
        ("two", "skipped_credential_rests"),
    ]
    assert client.headers["retry-after"] == "13"
    assert rig.journal.finals[-1].record.charge == 0
    keys.meets.clear()
    rig.clock.advance(11.5)
    assert (await rig.chat()).status == 503
    rig.clock.advance(1.5)
    assert (await rig.chat()).status == 200


@on_loop
async def test_when_all_are_refused_there_is_no_time_to_wait_for(rig: Rig) -> None:
    rig.serve(route(lab("a", "b")))
    Keys(rig, a=refused, b=refused)
    await rig.chat()
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert outcomes(client) == [("lab", "skipped_no_credential")]
    assert "retry-after" not in client.headers


@on_loop
async def test_a_call_waits_for_a_credential_that_rests_briefly(rig: Rig) -> None:
    for _ in range(5):
        await rig.chat()
    rig.serve(route(lab("a")))
    keys = Keys(rig, a=lambda: limited("3") if len(keys.used) == 1 else chat())
    assert (await rig.chat()).status == 200
    assert rig.waits == [3]


@on_loop
async def test_no_more_tries_than_the_policy_says(rig: Rig) -> None:
    rig.serve(route(lab("a", "b", "c", "d", "e")))
    keys = Keys(rig, a=refused, b=refused, c=refused, d=refused)
    assert (await rig.chat()).status == 503
    assert keys.since() == ["a", "b", "c"]
    rig.serve(route(lab("k", "l", "m", retry=RetryPolicy(max_attempts=2))))
    keys = Keys(rig, k=refused, l=refused)
    for _ in range(10):
        await rig.chat()
    assert keys.used[0] == "k" and keys.used.count("k") == keys.used.count("l") == 1


@on_loop
async def test_credentials_are_tried_within_the_budget(rig: Rig) -> None:
    """All of them limited, for ever: the provider still has no more than its share."""
    rig.serve(route(lab("a", "b", "c")))
    rig.upstreams.script = lambda request: limited("1")
    for calls in range(1, 301):
        rig.clock.advance(1.5)
        await rig.chat()
        assert len(rig.upstreams.sent) <= max(calls + 2, calls * 1.2)


@on_loop
async def test_what_the_database_does_not_take_is_written_later(
    rig: Rig, drained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.live.DRAIN_AGAIN_SECONDS", 0.001)
    tries: list[int] = []

    def away_at_first(**told: str) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreAway("away")
        drained.append(told)

    monkeypatch.setattr(services, "drain_credential", away_at_first)
    rig.serve(route(lab("a", "b")))
    Keys(rig, a=refused)
    await rig.chat()
    await eventually(lambda: drained)
    assert len(tries) == 3


@on_loop
async def test_a_drained_one_is_used_again_when_a_later_snapshot_says_so(
    rig: Rig, drained: list[Any]
) -> None:
    """As staff do: the snapshot in between has it drained, the next has not."""
    spec = CredentialSpec("crd_a", "a")
    routes = [
        route(target(provider("lab", secrets={None: [each, "b"]})))
        for each in (spec, replace(spec, drained=True), spec)
    ]
    rig.serve(routes[0])
    keys = Keys(rig, a=refused)
    await rig.chat()
    if not drained:  # the thread that writes may have been quicker
        rig.gateway._follow(snapshot(routes[0]))  # read before it was written
    await eventually(lambda: drained)
    await asyncio.sleep(0.01)
    keys.meets.clear()
    keys.since()
    for number, used in ((0, {"b"}), (1, {"b"}), (2, {"a", "b"})):
        rig.serve(routes[number])
        if number:
            rig.gateway._follow(snapshot(routes[number]))
        for _ in range(4):
            await rig.chat()
        assert set(keys.since()) == used


# Whose they are


@on_loop
async def test_a_tenants_own_take_turns_among_themselves(rig: Rig) -> None:
    rig.serve(route(lab("house", own={1: ["a", "b"]})))
    keys = Keys(rig, a=refused)
    for _ in range(4):
        assert (await rig.chat()).status == 200
    assert keys.since() == ["a", "b", "b", "b", "b"]
    await rig.chat(key=rig.callers.add(tenant=2))
    assert keys.since() == ["house"]


@pytest.mark.parametrize("fault", [refused, limited], ids=["refused", "limited"])
@pytest.mark.parametrize("later", [False, True], ids=["the same call", "a later snapshot"])
@on_loop
async def test_a_tenants_own_never_turns_into_the_houses(rig: Rig, fault: Any, later: bool) -> None:
    own = held(["a"])
    rig.serve(route(lab("house", own={1: own}), lab("x", slug="two")))
    keys = Keys(rig, a=fault)
    assert (await rig.chat()).status == 503
    if later and fault is refused:
        drained = [replace(each, drained=True) for each in own]
        rig.serve(route(lab("house", own={1: drained}), lab("x", slug="two")))
    client = await rig.chat()
    assert client.status == 503
    reason = "no_credential" if fault is refused else "credential_rests"
    assert outcomes(client)[0] == ("lab", f"skipped_{reason}")
    assert keys.used == ["a"]


@on_loop
async def test_scripted_limits_rest_the_tenants_own_only_and_refusals_nobodys(rig: Rig) -> None:
    rig.serve(route(lab("a")))
    one, two = (rig.callers.add(mode=Mode.TEST, tenant=tenant) for tenant in (1, 2))
    rig.upstreams.script = lambda request: limited()
    assert (await rig.chat(key=one)).status == 503
    rig.upstreams.script = lambda request: chat()
    assert outcomes(await rig.chat(key=one)) == [("lab", "skipped_credential_rests")]
    assert (await rig.chat(key=two)).status == 200
    assert (await rig.chat()).status == 200
    rig.clock.advance(20)
    rig.upstreams.script = lambda request: refused()
    assert (await rig.chat(key=one)).status == 503
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat(key=one)).status == 200


@on_loop
async def test_those_that_rest_come_last_in_a_strategy(rig: Rig) -> None:
    rig.serve(route(lab("a"), lab("x", slug="two"), strategy="weighted"))
    keys = Keys(rig, a=limited)
    for _ in range(6):
        assert (await rig.chat()).status == 200
    assert keys.used.count("a") == 1


@on_loop
async def test_a_provider_without_credentials_has_none_to_rest(rig: Rig) -> None:
    rig.serve(route(target(provider("open", secrets={}, needs_credential=False))))
    rig.upstreams.script = lambda request: limited()
    await rig.chat()
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat()).status == 200


def test_the_words_fit_into_their_column() -> None:
    longest = Attempt._meta.get_field("verdict").max_length
    assert longest is not None
    assert all(len(word) <= longest for word in SKIPS)
