"""Breakers of a running service with two gateways: what one has seen and what staff say is in
force on both within a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.patience import eventually, promised, seconds_until
from tests.services.cluster import Cluster

CHAT = "/api/v1/chat/completions"
BREAKERS = "/internal/v1/breakers"
ASK = {"model": "lab/plain", "messages": [{"role": "user", "content": "hello"}]}
OPERATOR = """
tenants:
  - slug: operators
    plan: unlimited
    projects: [{slug: default}]
    keys: [{name: main, mode: live, scopes: ["internal:read", "internal:write"]}]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, cluster_template: Path) -> Iterator[Cluster]:
    with Cluster.made(tmp_path_factory.mktemp("breakers"), cluster_template, gateways=2) as made:
        made.apply(OPERATOR)
        yield made


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[tuple[httpx2.Client, httpx2.Client]]:
    one, two = (httpx2.Client(base_url=url, timeout=20) for url in cluster.urls)
    with closing(one), closing(two):
        yield one, two


def ask(client: httpx2.Client, key: str, **more: Any) -> tuple[int, str]:
    answer = client.post(CHAT, json={**ASK, **more}, headers={"X-API-Key": key})
    return answer.status_code, answer.json().get("error", {}).get("code", "")


def say(client: httpx2.Client, key: str, name: str, action: str, **body: Any) -> None:
    where = f"{BREAKERS}/{name}/{action}"
    told = client.post(where, json={"reason": "a test", **body}, headers={"X-API-Key": key})
    assert told.status_code == 201, told.text


def on_both(check: Callable[[httpx2.Client], bool], clients: tuple[httpx2.Client, ...]) -> float:
    """Seconds until it was so on each."""
    return seconds_until(lambda: all(check(client) for client in clients))


def test_staffs_word_is_in_force_on_every_gateway_within_a_second(
    cluster: Cluster, clients: tuple[httpx2.Client, httpx2.Client]
) -> None:
    live, operator = cluster.keys["acme/live"], cluster.keys["operators/main"]
    assert [ask(client, live)[0] for client in clients] == [200, 200]

    def once() -> float:
        say(clients[0], operator, "lab/plain", "force-open")
        opened = on_both(lambda client: ask(client, live) == (503, "circuit_open"), clients)
        assert ask(clients[0], live, model="lab/gpt-x")[0] == 200
        say(clients[1], operator, "lab/plain", "reset")
        return max(opened, on_both(lambda client: ask(client, live)[0] == 200, clients))

    promised(once)


def test_a_word_of_staffs_is_shown_and_ends_by_itself(
    cluster: Cluster, clients: tuple[httpx2.Client, httpx2.Client]
) -> None:
    live, operator = cluster.keys["acme/live"], cluster.keys["operators/main"]
    say(clients[0], operator, "lab", "force-open", seconds=4)
    ends = time.monotonic() + 4
    on_both(lambda client: ask(client, live) == (503, "circuit_open"), clients)
    other = {"model": "lab2/claude-y"}
    assert [ask(client, live, **other)[0] for client in clients] == [200, 200]
    for client in clients:
        shown = client.get(BREAKERS, headers={"X-API-Key": operator}).json()["data"]
        (lab,) = [breaker for breaker in shown if breaker["name"] == "lab"]
        assert (lab["state"], lab["override"]["reason"]) == ("FORCED_OPEN", "a test")
    on_both(lambda client: ask(client, live)[0] == 200, clients)
    assert time.monotonic() - ends > -0.3  # nobody was told


def test_what_one_gateway_has_seen_rests_the_target_on_both(
    cluster: Cluster, clients: tuple[httpx2.Client, httpx2.Client]
) -> None:
    def once() -> float:
        key = cluster.visitor()
        broken = {"X-API-Key": key, "x-sandbox-fault": "status=500"}
        assert [ask(client, key)[0] for client in clients] == [200, 200]
        for _ in range(5):
            assert clients[0].post(CHAT, json=ASK, headers=broken).status_code == 503
        return on_both(lambda client: ask(client, key) == (503, "circuit_open"), clients)

    promised(once)
    assert ask(clients[1], cluster.visitor())[0] == 200


def test_metrics_tell_it(cluster: Cluster, clients: tuple[httpx2.Client, httpx2.Client]) -> None:
    ask(clients[0], cluster.keys["acme/live"])
    told = eventually(lambda: _metrics(clients[0]))
    assert 'resilience4j_circuitbreaker_state{name="lab",state="closed"} 1.0' in told
    assert 'resilience4j_circuitbreaker_calls_total{kind="successful",name="lab/plain"}' in told
    assert "resilience4j_circuitbreaker_not_permitted_calls_total" in told
    assert "test:" not in told


def _metrics(client: httpx2.Client) -> str:
    text = client.get("/api/metrics").text
    return text if 'name="lab/plain"' in text else ""
