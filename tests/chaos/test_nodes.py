"""G1: a rate limit is one for all. Whether one gateway counts or three do, the same number is let
in, never more than the limit in any span of its length, and nearly all of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.chaos.client import Seen, prompt
from tests.chaos.racers import TIMEOUT, Race, racing
from tests.chaos.reporting import FIGURES
from tests.services.cluster import Client, Cluster
from tests.services.process import until
from tests.services.valkey import Valkey
from tests.usage.counters.stage import rate
from usage.counters.claims import MICROSECONDS, Amounts

pytestmark = pytest.mark.chaos

LIMIT = 200
CLIENTS = 64
USED = 0.98
APART = 0.02  # by which the numbers of one node and of three may differ
MILLISECOND = 0.001  # to which the sandbox notes when a call came
Note = Callable[[str, object], None]


def most_in_a_span(moments: Sequence[int], span: int) -> int:
    """Of any span's length, its end left out."""
    most, first = 0, 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= span:
            first += 1
        most = max(most, last - first + 1)
    return most


def in_the_first(spans: int, moments: Sequence[int], span: int) -> int:
    return sum(moment - moments[0] < spans * span for moment in moments)


def flood(
    valkey: Valkey, folder: Path, nodes: int, spans: int, seconds: int, *, timeout: float
) -> list[int]:
    """When calls were let in, in µs of the store's clock."""
    one = Amounts(requests=1)
    with racing(valkey.url, folder, nodes, timeout) as racers:
        claim = rate(LIMIT, seconds, whose=f"{nodes} nodes")
        lasting = (spans + 0.2) * seconds
        outcomes = racers.run(Race((claim,), one, one, seconds=lasting), CLIENTS)
    assert {code for each in outcomes for code in each.refused} == {"rate_limit_exceeded"}
    return sorted(moment for each in outcomes for moment in each.admitted)


def test_one_node_and_three_let_in_the_same_number(
    valkey: Valkey, tmp_path: Path, is_long: bool, record_property: Note
) -> None:
    spans, seconds = (10, 2) if is_long else (3, 1)
    span, counts = seconds * MICROSECONDS, []
    for nodes in (1, 3):
        folder = tmp_path / str(nodes)
        folder.mkdir()
        # The short form shares its machine with other tests, and the flood is the processor's
        # whole work: it is about exactness while the store answers (usage/test_late_store.py has
        # the rest), so there nobody takes a store for late that has not had its turn.
        timeout = TIMEOUT if is_long else 5.0
        moments = flood(valkey, folder, nodes, spans, seconds, timeout=timeout)
        counts.append(in_the_first(spans, moments, span))
        assert most_in_a_span(moments, span) <= LIMIT
        assert counts[-1] >= USED * LIMIT * spans
    assert abs(counts[1] - counts[0]) <= APART * counts[0]
    record_property(FIGURES, figures("counters", counts, LIMIT * spans))


def figures(what: str, counts: Sequence[int], allowed: int) -> str:
    one, three = counts
    return f"nodes, {what}: one={one} three={three} allowed={allowed}"


TENANT = """
tenants:
  - slug: nodes-{nodes}
    plan: unlimited
    projects: [{{slug: default}}]
    keys: [{{name: live, mode: live, scopes: ["*"]}}]
    rate_limits: [{{scope: tenant, limit: {limit}, per_seconds: {seconds}}}]
"""


async def _flood(clients: Sequence[Client], key: str, seconds: float) -> list[Seen]:
    seen, end = [], time.monotonic() + seconds

    async def calls(client: Client) -> None:
        while time.monotonic() < end:
            seen.append(await client.call(key, prompt(1, 1, stream=False)))

    await asyncio.gather(*map(calls, clients))
    return seen


def surely_in_a_span(calls: Sequence[tuple[int, int]], span: int) -> int:
    """Each call was let in after it was begun and before it arrived, at some moment between. The
    most calls that were, for certain, within one span's length."""
    return max(
        sum(first <= begun and arrived < first + span for begun, arrived in calls)
        for first, _ in calls
    )


def admitted(cluster: Cluster, seen: Sequence[Seen]) -> list[tuple[int, int]]:
    """When calls that were let in were begun, by the client, and reached the sandbox, in µs."""
    wall = time.time() - time.monotonic()  # a loop's clock is the monotonic one
    begun = {each.request_id: each.begun + wall for each in seen if each.status == 200}
    until(lambda: {*begun} <= {line["request_id"] for line in _journal(cluster)})
    arrived = {
        line["request_id"]: dt.datetime.fromisoformat(line["started_at"]).timestamp()
        for line in _journal(cluster)
    }
    return [
        (int(at * MICROSECONDS), int((arrived[id_] + MILLISECOND) * MICROSECONDS))
        for id_, at in begun.items()
    ]


def _journal(cluster: Cluster) -> list[dict[str, str]]:
    return [json.loads(line) for line in cluster.journal.read_text().splitlines()]


@pytest.mark.only_long  # the test above asks the counters alone in either form
def test_one_gateway_and_three_let_in_the_same_number(
    new_cluster: Callable[..., Cluster], record_property: Note
) -> None:
    cluster, spans, seconds, counts = new_cluster(gateways=3), 8, 4, []
    span = seconds * MICROSECONDS
    for nodes in (1, 3):
        cluster.apply(TENANT.format(nodes=nodes, limit=LIMIT, seconds=seconds))
        clients = [Client(cluster.ports[:nodes], first) for first in range(CLIENTS)]
        seen = asyncio.run(
            _flood(clients, cluster.keys[f"nodes-{nodes}/live"], (spans + 0.5) * seconds)
        )
        assert {each.status for each in seen} == {200, 429}
        calls = admitted(cluster, seen)
        counts.append(in_the_first(spans, sorted(at for _, at in calls), span))
        assert surely_in_a_span(calls, span) <= LIMIT
        assert counts[-1] >= USED * LIMIT * spans
    assert abs(counts[1] - counts[0]) <= APART * counts[0]
    record_property(FIGURES, figures("gateways", counts, LIMIT * spans))
