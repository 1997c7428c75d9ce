"""Retries: whom, when, how often, and never more than the budget and the deadline allow."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from gateway.retrying import longest_wait
from providers.breaker_policy import Policies, parse
from providers.call import Verdict
from providers.retry_policy import RetryPolicy
from providers.timeouts import Timeouts
from providers.transport import TransportFault
from tenants.keys import Mode
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    DONE,
    FOREVER,
    HELLO,
    Reply,
    Rig,
    chat,
    event,
    failure,
    nothing_runs,
    provider,
    route,
    stream,
    target,
    whole,
)
from tests.loops import eventually, on_loop
from usage.counters.claims import Amounts

NEVER_OPENS: Policies = parse(
    {
        "consecutive_failures": 10**6,
        "minimum_calls": 10**4,
        "window": {"type": "count", "calls": 10**4},
    }
)
FREELY = RetryPolicy(budget_percent=10_000)  # for what the budget is not the point


def lab(slug: str = "lab", **fields: Any) -> Any:
    return target(provider(slug, **{"breaker": NEVER_OPENS, "retry": FREELY} | fields))


def in_turn(*replies: Callable[[], Any]) -> Callable[[], Any]:
    """Each once, and the last for ever."""
    left = list(replies)

    def answer() -> Any:
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply()

    return answer


def limited(wait: str | None = None) -> Reply:
    headers = {} if wait is None else {"retry-after": wait}
    return whole({"error": {"message": "slow down"}}, 429, **headers)


def unavailable(wait: str) -> Reply:
    return whole({"error": {"message": "no"}}, 503, **{"retry-after": wait})


def unreachable() -> Exception:
    return TransportFault(Verdict.UNREACHABLE, "refused")


def timed_out() -> Exception:
    return TransportFault(Verdict.TIMEOUT, "slow")


def verdicts(rig: Rig) -> list[tuple[str, str]]:
    return [(a.provider, a.verdict) for a in rig.journal.finals[-1].attempts]


TRANSIENT: dict[str, tuple[Callable[[], Any], str]] = {
    "500": (failure, "upstream_unavailable"),
    "503": (lambda: failure(503), "upstream_unavailable"),
    "408": (lambda: failure(408), "timeout"),
    "409": (lambda: failure(409), "upstream_unavailable"),
    "429": (lambda: failure(429), "rate_limited"),
    "unreachable": (unreachable, "unreachable"),
    "timed out": (timed_out, "timeout"),
    "cut within the body": (lambda: Reply([b'{"id', unreachable()]), "unreachable"),
}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "verdict"), TRANSIENT.values(), ids=TRANSIENT.keys())
@on_loop
async def test_what_passes_is_asked_again(
    rig: Rig, fault: Any, verdict: str, streams: bool
) -> None:
    rig.serve(route(lab()))
    answer = stream if streams else chat
    rig.upstreams.by_provider(lab=in_turn(fault, fault, answer))
    client = await rig.chat(stream=streams)
    assert client.status == 200
    assert client.headers["x-patchbay-attempts"] == "3"
    assert [a.verdict for a in rig.final.attempts] == [verdict, verdict, "ok"]
    assert [a.number for a in rig.final.attempts] == [1, 2, 3]
    assert len(rig.waits) == 2
    assert all(reply.closed for reply in rig.upstreams.replies)


LASTING: dict[str, Callable[[], Any]] = {
    "400": lambda: failure(400),
    "401": lambda: failure(401),
    "402": lambda: failure(402),
    "404": lambda: failure(404),
    "no JSON": lambda: Reply([b"<html>"]),
}


@pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING.keys())
@on_loop
async def test_what_does_not_pass_is_not_asked_again(rig: Rig, fault: Any) -> None:
    rig.serve(route(lab()))
    rig.upstreams.script = lambda request: fault()
    await rig.chat()
    assert len(rig.upstreams.sent) == 1
    assert rig.waits == []


@on_loop
async def test_three_tries_with_waits_that_double(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.upstreams.script = lambda request: failure()
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert len(rig.upstreams.sent) == 3
    assert rig.waits == [0.5, 1.0]  # half of 1 and 2
    assert len(client.error["attempts"]) == 3


@on_loop
async def test_the_policy_says_how_often_and_how_long(rig: Rig) -> None:
    policy = RetryPolicy(5, base_seconds=2, max_seconds=6, budget_percent=10_000)
    rig.serve(route(lab(retry=policy)))
    rig.upstreams.script = lambda request: failure()
    await rig.chat()
    assert len(rig.upstreams.sent) == 5
    assert rig.waits == [1, 2, 3, 3]


def test_waits_have_full_jitter() -> None:
    policy = RetryPolicy()
    assert [longest_wait(policy, n) for n in (1, 2, 3, 4, 5, 10**9)] == [1, 2, 4, 4, 4, 4]


@on_loop
@pytest.mark.unmeasured
async def test_waits_are_spread_from_nothing_to_the_longest(rig: Rig) -> None:
    rig.serve(route(lab(retry=RetryPolicy(2, budget_percent=10_000))))
    rig.gateway.dispatcher.retrying.random = random.Random(7)
    rig.upstreams.script = lambda request: failure()
    for _ in range(200):
        await rig.chat()
    assert 0 <= min(rig.waits) < 0.05 and 0.95 < max(rig.waits) <= 1
    assert 0.4 < sum(rig.waits) / len(rig.waits) < 0.6


@on_loop
async def test_another_target_goes_before_any_wait(rig: Rig) -> None:
    rig.serve(route(lab("one"), lab("two")))
    rig.upstreams.by_provider(one=failure)
    assert (await rig.chat()).status == 200
    assert rig.upstreams.asked == ["one", "two"]
    assert rig.waits == []


@on_loop
async def test_when_all_have_failed_the_soonest_is_asked_again(rig: Rig) -> None:
    rig.serve(route(lab("one"), lab("two"), lab("three")))
    rig.upstreams.by_provider(
        one=lambda: unavailable("20"),
        two=in_turn(lambda: unavailable("3"), chat),
        three=lambda: failure(400 if len(rig.upstreams.sent) > 3 else 404),
    )
    client = await rig.chat()
    assert client.headers["x-patchbay-provider"] == "two"
    assert rig.upstreams.asked == ["one", "two", "three", "two"]
    assert rig.waits == [3]


@on_loop
async def test_a_route_that_fails_asks_each_as_often_as_its_policy_says(rig: Rig) -> None:
    rig.serve(route(lab("one"), lab("two", retry=RetryPolicy(2, budget_percent=10_000))))
    rig.upstreams.script = lambda request: failure()
    client = await rig.chat()
    assert Counter(rig.upstreams.asked) == {"one": 3, "two": 2}
    assert client.error["code"] == "provider_unavailable"
    assert [a["outcome"] for a in client.error["attempts"]] == ["upstream_unavailable"] * 5


def _date(rig: Rig, seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize("answer", [limited, unavailable], ids=["429", "503"])
@pytest.mark.parametrize("dated", [False, True], ids=["seconds", "date"])
@on_loop
async def test_a_short_retry_after_is_waited_for(rig: Rig, answer: Any, dated: bool) -> None:
    rig.serve(route(lab()))
    told = _date(rig, 10) if dated else "10"
    rig.upstreams.by_provider(lab=in_turn(lambda: answer(told), chat))
    assert (await rig.chat()).status == 200
    assert rig.waits == [pytest.approx(10, abs=1.1)]


@pytest.mark.parametrize("answer", [limited, unavailable], ids=["429", "503"])
@pytest.mark.parametrize("dated", [False, True], ids=["seconds", "date"])
@on_loop
async def test_one_beyond_the_deadline_is_not(rig: Rig, answer: Any, dated: bool) -> None:
    rig.serve(route(lab()))
    told = _date(rig, 120) if dated else "120"
    rig.upstreams.by_provider(lab=lambda: answer(told))
    client = await rig.chat()
    assert (client.status, rig.waits) == (503, [])
    assert 118 <= int(client.headers["retry-after"]) <= 121
    assert len(rig.upstreams.sent) == 1


@on_loop
async def test_a_long_retry_after_means_the_next_target_at_once(rig: Rig) -> None:
    rig.serve(route(lab("one"), lab("two")))
    rig.upstreams.by_provider(one=lambda: limited("30"))
    assert (await rig.chat()).headers["x-patchbay-provider"] == "two"
    assert rig.waits == []


@on_loop
async def test_waits_fit_into_what_the_client_allows(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.upstreams.script = lambda request: unavailable("1")
    started = time.monotonic()
    client = await rig.chat(headers={"X-Patchbay-Deadline-Ms": "900"})
    assert time.monotonic() - started < 0.5
    assert (client.status, rig.waits) == (503, [])


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
@on_loop
async def test_the_deadline_holds_over_retries_and_waits(
    rig: Rig, streams: bool, hangs: bool
) -> None:
    """Real waits: an answer or a refusal comes within 100 ms of the deadline (the best of a few,
    since others need this machine too)."""
    policy = RetryPolicy(100, base_seconds=0.03, max_seconds=0.03, budget_percent=10_000)
    rig.serve(route(lab("one", retry=policy), lab("two", retry=policy)))

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        rig.clock.advance(seconds)

    rig.gateway.dispatcher.retrying.sleep = wait
    kind = {"content-type": "text/event-stream" if streams else "application/json"}
    took = []
    for _ in range(3):
        last = (lambda: Reply([FOREVER], 200, kind)) if hangs else failure
        rig.upstreams.by_provider(one=failure, two=in_turn(failure, failure, last))
        started = time.monotonic()
        client = await rig.chat(stream=streams, headers={"X-Patchbay-Deadline-Ms": "150"})
        took.append(time.monotonic() - started)
        # The last try may begin in time and not end in it.
        assert client.error["code"] in ("deadline_exceeded", "provider_unavailable")
        assert not hangs or client.status == 504
    assert min(took) < 0.25
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_who_leaves_during_a_wait_ends_it(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.gateway.dispatcher.retrying.sleep = asyncio.sleep
    rig.upstreams.script = lambda request: unavailable("30")
    client = rig.client(b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}')
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: rig.upstreams.sent)
    client.gone.set()
    await asked
    assert client.messages == []
    assert rig.final.record.code == "hung_up"
    assert verdicts(rig) == [("lab", "upstream_unavailable")]
    assert rig.final.record.charge == 0
    assert await nothing_runs()


@on_loop
async def test_nothing_is_asked_again_once_a_byte_has_left(rig: Rig) -> None:
    rig.serve(route(lab("one"), lab("two")))
    rig.upstreams.by_provider(one=lambda: stream(event("hel"), unreachable()))
    client = await rig.chat(stream=True)
    assert rig.upstreams.asked == ["one"]
    assert client.text == "hel" and not client.body.endswith(DONE)


@on_loop
async def test_only_the_try_that_answered_is_billed(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.upstreams.by_provider(lab=in_turn(failure, chat))
    await rig.chat()
    record, attempts = rig.final.record, rig.final.attempts
    assert record.attempts == 2
    assert record.cost > 0
    assert [(a.tokens, a.cost) for a in attempts] == [(0, 0), (10, record.cost)]


@on_loop
async def test_a_single_target_tells_how_it_failed(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.upstreams.script = lambda request: timed_out()
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (504, "upstream_timeout")
    assert [a["outcome"] for a in client.error["attempts"]] == ["timeout"] * 3


@on_loop
async def test_a_breaker_that_opens_ends_the_retries(rig: Rig) -> None:
    rig.serve(route(lab(breaker=parse({"consecutive_failures": 2}))))
    rig.upstreams.script = lambda request: failure()
    client = await rig.chat()
    assert len(rig.upstreams.sent) == 2
    assert [a["outcome"] for a in client.error["attempts"]] == ["upstream_unavailable"] * 2
    assert (await rig.chat()).error["code"] == "circuit_open"


# The budget


@pytest.mark.parametrize(
    ("fault", "total"),
    [(failure, 1000), (unreachable, 100), (timed_out, 100), (limited, 100)],
    ids=["500", "refused", "slow", "429"],
)
@on_loop
@pytest.mark.unmeasured
async def test_at_total_failure_each_provider_has_at_most_its_budget(
    rig: Rig, fault: Any, total: int
) -> None:
    rig.serve(route(lab("one", retry=RetryPolicy()), lab("two", retry=RetryPolicy())))
    rig.upstreams.script = lambda request: fault()
    asked: Counter[str] = Counter()
    for calls in range(1, total + 1):
        await rig.chat()
        rig.clock.advance(5)  # what was limited rests no more
        asked.update(rig.upstreams.asked)
        rig.upstreams.sent.clear()
        assert max(asked.values()) * 10 <= 12 * calls
    assert asked == {"one": total * 6 // 5, "two": total * 6 // 5}


@on_loop
async def test_at_total_failure_all_at_once_too(rig: Rig) -> None:
    rig.serve(route(lab(retry=RetryPolicy(base_seconds=0.001))))
    rig.gateway.dispatcher.retrying.sleep = asyncio.sleep
    rig.upstreams.script = lambda request: failure()
    clients = await asyncio.gather(*(rig.chat() for _ in range(300)))
    assert {client.status for client in clients} == {503}
    assert 300 < len(rig.upstreams.sent) <= 360


@on_loop
async def test_a_budget_of_nothing_retries_nothing(rig: Rig) -> None:
    rig.serve(route(lab(retry=RetryPolicy(budget_percent=0))))
    rig.upstreams.script = lambda request: failure()
    for _ in range(50):
        await rig.chat()
    assert len(rig.upstreams.sent) == 50


@on_loop
async def test_a_tenants_scripted_failures_use_up_nobody_elses_budget(rig: Rig) -> None:
    rig.serve(route(lab(retry=RetryPolicy())))
    for _ in range(20):
        await rig.chat()
    rig.upstreams.script = lambda request: failure()
    test = rig.callers.add(mode=Mode.TEST)
    sent = len(rig.upstreams.sent)
    for _ in range(10):
        await rig.chat(key=test)
    assert len(rig.upstreams.sent) - sent == 12
    await rig.chat()
    assert len(rig.upstreams.sent) - sent == 15


# What is counted


def quota(limit: int) -> Quota:
    return Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, limit)


@on_loop
async def test_each_try_counts_at_its_provider(rig: Rig) -> None:
    rig.serve(route(lab(quotas=(quota(4),))))
    rig.upstreams.by_provider(lab=in_turn(failure, chat))
    assert [(await rig.chat()).status for _ in range(4)] == [200, 200, 200, 503]
    assert len(rig.upstreams.sent) == 4


@on_loop
async def test_a_retry_needs_room_at_its_provider(rig: Rig) -> None:
    rig.serve(route(lab(quotas=(quota(2),))))
    rig.upstreams.script = lambda request: failure()
    client = await rig.chat()
    assert len(rig.upstreams.sent) == 2
    assert [a["outcome"] for a in client.error["attempts"]] == ["upstream_unavailable"] * 2


@on_loop
async def test_a_retry_needs_no_second_place(rig: Rig) -> None:
    """The call holds its provider's only slot already, and gives it back once."""
    slot = RateLimit(Scope.PROVIDER, 1, 0, metric=LimitMetric.CONCURRENCY)
    rig.serve(route(lab(rate_limits=(slot,))))
    rig.upstreams.by_provider(lab=in_turn(failure, failure, chat))
    assert [(await rig.chat()).status for _ in range(3)] == [200, 200, 200]
    rig.upstreams.script = lambda request: failure()
    assert (await rig.chat()).status == 503
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat()).status == 200


@on_loop
async def test_a_retry_at_the_first_after_the_second_counts_where_it_was_made(rig: Rig) -> None:
    tokens = Quota(QuotaScope.PROVIDER, Metric.TOKENS, Window.DAY, 10**6)
    rig.serve(route(lab("one", quotas=(tokens,)), lab("two", quotas=(tokens,))))
    rig.upstreams.by_provider(one=in_turn(failure, chat), two=lambda: failure(404))
    settled: list[list[Amounts]] = []
    counters = rig.gateway.admissions.counters
    settle = counters.settle

    def noted(hold: Any, used: Any) -> None:
        by_part = zip(hold.parts, used, strict=True)
        settled.append([(part.provider, amounts.tokens) for part, amounts in by_part])  # type: ignore[misc]
        settle(hold, used)

    counters.settle = noted  # type: ignore[method-assign]
    assert (await rig.chat()).status == 200
    assert settled == [[("", 10), ("one", 0), ("two", 0), ("one", 10)]]


# What is told


@on_loop
async def test_explain_tells_the_last_of_several_tries(rig: Rig) -> None:
    rig.serve(route(lab("one"), lab("two")))
    rig.upstreams.by_provider(one=in_turn(failure, chat), two=lambda: failure(404))
    client = await rig.ask(
        body={"model": "m", "messages": HELLO}, headers={"X-Patchbay-Explain": "true"}
    )
    told = client.headers["x-patchbay-explain"]
    assert '"provider":"one","model":"gpt-x","place":1' in told
    assert [reason in told for reason in ('"served"', '"blocked"', '"not_needed"')] == [
        True,
        True,
        False,
    ]


@on_loop
async def test_a_second_target_has_its_own_time_outs(rig: Rig) -> None:
    slow = lab("two", timeouts=Timeouts(first_byte=0.02))
    rig.serve(route(lab("one"), slow, lab("three")))
    rig.upstreams.by_provider(one=failure, two=lambda: stream(b": wait\n\n", FOREVER), three=stream)
    client = await rig.chat(stream=True)
    assert client.text == "hello back"
    assert verdicts(rig) == [
        ("one", "upstream_unavailable"),
        ("two", "timeout"),
        ("three", "ok"),
    ]
