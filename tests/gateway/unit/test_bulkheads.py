"""A provider that hangs holds up its own calls only: a full bulkhead is passed over, and is
nobody's fault."""

from __future__ import annotations

import asyncio
import json

from providers.call import Verdict
from providers.transport import TransportFault
from tenants.keys import Mode
from tenants.limits import LimitMetric, RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import FOREVER, HELLO, Client, Reply, Rig, chat, provider, route, target
from tests.loops import eventually, on_loop

HANGS = Reply([FOREVER])


def full() -> Exception:
    return TransportFault(Verdict.SATURATED, "all connections to this provider were in use")


@on_loop
async def test_a_full_bulkhead_is_passed_over_and_counts_nowhere(rig: Rig) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, 1)
    rig.serve(route(target(provider("one", quotas=(quota,))), target("two")))
    rig.upstreams.by_provider(one=full)
    for _ in range(9):
        client = await rig.chat()
        assert client.headers["x-patchbay-provider"] == "two"
    assert rig.upstreams.asked == ["one", "two"] * 9  # nothing of its quota was used
    verdicts = [[one.verdict for one in final.attempts] for final in rig.journal.finals]
    assert verdicts == [["skipped_saturated", "ok"]] * 9
    (figures,) = [f for f in rig.gateway.dispatcher.breakers.figures() if f.name == "one"]
    assert (figures.failures_in_a_row, figures.buffered_calls, figures.failed_total) == (0, 0, 0)


@on_loop
async def test_where_no_other_can_take_over_the_caller_is_told_when_to_come_again(rig: Rig) -> None:
    rig.upstreams.script = lambda request: full()
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "provider_unavailable")
    assert client.headers["retry-after"] == "1"
    assert [each["outcome"] for each in client.error["attempts"]] == ["skipped_saturated"]
    rig.upstreams.script = lambda request: chat()
    assert (await rig.chat()).status == 200


@on_loop
async def test_each_provider_and_in_test_mode_each_tenant_has_a_bulkhead_of_its_own(
    rig: Rig,
) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=full)
    await rig.chat()
    for tenant in (1, 2):
        await rig.chat(key=rig.callers.add(tenant=tenant, mode=Mode.TEST))
    bulkheads = [request.bulkhead for request in rig.upstreams.sent]
    assert bulkheads == [
        *("one", "two"),
        *("test:1:one", "test:1:two"),
        *("test:2:one", "test:2:two"),
    ]


@on_loop
async def test_calls_at_the_same_time_are_a_bulkhead_that_all_workers_share(rig: Rig) -> None:
    slots = RateLimit(Scope.PROVIDER, 2, 0, metric=LimitMetric.CONCURRENCY)
    rig.serve(route(target(provider("one", rate_limits=(slots,))), target("two")))
    rig.upstreams.by_provider(one=lambda: HANGS)
    clients = [rig.client(json.dumps({"model": "m", "messages": HELLO}).encode()) for _ in "ab"]
    hung = [asyncio.create_task(rig.run(client)) for client in clients]
    await eventually(lambda: len(rig.upstreams.replies) == 2)
    others: list[Client] = [await rig.chat() for _ in range(3)]
    assert [each.headers["x-patchbay-provider"] for each in others] == ["two"] * 3
    assert rig.upstreams.asked == ["one"] * 2 + ["two"] * 3
    clients[0].gone.set()
    await hung[0]
    rig.upstreams.by_provider()
    assert (await rig.chat()).headers["x-patchbay-provider"] == "one"
    clients[1].gone.set()
    await hung[1]
