"""Idempotency-Key from outside: over real sockets, several processes, kills and hang-ups."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lib.ids import uuid7
from tests.gateway.test_on_postgresql import OnPostgres
from tests.patience import eventually
from tests.services.postgres import SYSTEM, Postgres
from tests.services.process import ServerProcess, free_port
from tests.services.system import ROOT, System

CHAT = "/api/v1/chat/completions"
ASK = {"model": "lab/gpt-x", "messages": [{"role": "user", "content": "hello there, gateway"}]}
MANY = 100


@pytest.fixture
def client(system: System) -> Iterator[httpx2.Client]:
    headers = {"X-API-Key": system.keys["acme/live"]}
    with httpx2.Client(base_url=system.url, headers=headers, timeout=20) as client:
        yield client


def keyed(client: httpx2.Client, key: str, path: str = CHAT, **body: Any) -> httpx2.Response:
    return client.post(path, json={**ASK, **body}, headers={"Idempotency-Key": key})


def assert_replays(second: httpx2.Response, first: httpx2.Response) -> None:
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-patchbay-original-request-id"] == first.headers["x-request-id"]
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    for name in ("content-type", "x-patchbay-provider", "x-patchbay-attempts"):
        assert second.headers[name] == first.headers[name]


def asked(system: System, ids: Sequence[str]) -> list[str]:
    """Whose calls the sandbox wrote down, of these."""
    whole = system.journal.read_text().rpartition("\n")[0]
    lines = [json.loads(line)["request_id"] for line in whole.splitlines()]
    return [request_id for request_id in lines if request_id in ids]


def billed(system: System, ids: Sequence[str]) -> list[dict[str, Any]]:
    marks = ", ".join("?" * len(ids))
    return system.rows(f"SELECT * FROM usage_usagerecord WHERE request_id IN ({marks})", *ids)


async def many(urls: Sequence[str], api_key: str, key: str, **body: Any) -> list[httpx2.Response]:
    """The same call, many times at once, at each of the gateways in turn."""
    headers = {"X-API-Key": api_key, "Idempotency-Key": key}
    limits = httpx2.Limits(max_connections=MANY)
    async with httpx2.AsyncClient(limits=limits, timeout=60, headers=headers) as client:
        calls = [client.post(urls[n % len(urls)] + CHAT, json={**ASK, **body}) for n in range(MANY)]
        return await asyncio.gather(*calls)


def first_of(answers: Sequence[httpx2.Response]) -> httpx2.Response:
    """The one that was a call."""
    (first,) = [
        answer
        for answer in answers
        if answer.status_code == 200 and "idempotency-replayed" not in answer.headers
    ]
    return first


def assert_one_call(system: System, answers: Sequence[httpx2.Response]) -> None:
    first = first_of(answers)
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] == "idempotency_conflict"
            assert answer.headers["retry-after"] == "1"
        elif answer is not first:
            assert_replays(answer, first)
    assert set(Counter(answer.status_code for answer in answers)) <= {200, 409}
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert eventually(lambda: asked(system, ids)) == [first.headers["x-request-id"]]
    rows = billed(system, ids)
    assert [row["request_id"] for row in rows] == [first.headers["x-request-id"]]
    assert rows[0]["charge"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_hundred_at_once_are_one_call_and_one_charge(system: System, stream: bool) -> None:
    api_key = system.keys["acme/live"]
    answers = asyncio.run(many([system.url], api_key, uuid7(), stream=stream))
    assert_one_call(system, answers)


def test_a_json_answer_comes_again_and_costs_nothing(client: httpx2.Client, system: System) -> None:
    key = uuid7()
    first, second = keyed(client, key), keyed(client, key)
    assert_replays(second, first)
    assert second.headers["x-patchbay-cost-microusd"] == first.headers["x-patchbay-cost-microusd"]
    ids = [first.headers["x-request-id"], second.headers["x-request-id"]]
    assert [row["request_id"] for row in billed(system, ids)] == ids[:1]
    assert eventually(lambda: asked(system, ids)) == ids[:1]


def test_a_stream_comes_again_byte_for_byte(client: httpx2.Client) -> None:
    key, body = uuid7(), {"stream": True, "stream_options": {"include_usage": True}}
    first, second = keyed(client, key, **body), keyed(client, key, **body)
    assert first.content.endswith(b"data: [DONE]\n\n")
    assert_replays(second, first)


def test_another_body_is_a_mistake(client: httpx2.Client) -> None:
    key = uuid7()
    keyed(client, key)
    answer = keyed(client, key, temperature=0.5)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_quoted_or_bare_and_by_an_alias(client: httpx2.Client) -> None:
    key = uuid7()
    first = keyed(client, key)
    assert_replays(keyed(client, f'"{key}"', "/api/chat"), first)


def test_what_is_no_key(client: httpx2.Client) -> None:
    answer = keyed(client, "x" * 256)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_another_tenants_key_is_another_key(system: System, client: httpx2.Client) -> None:
    key = uuid7()
    keyed(client, key)
    for stranger in (system.visitor(), system.visitor()):
        headers = {"X-API-Key": stranger, "Idempotency-Key": key}
        body = {**ASK, "model": "lab-chat"}  # even another body tells nothing of the first
        answer = httpx2.post(system.url + CHAT, json=body, headers=headers, timeout=20)
        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers


def test_embeddings_and_batches(system: System) -> None:
    headers = {"X-API-Key": system.visitor(), "Idempotency-Key": uuid7()}
    ask = {"model": "text-embedding-3-small", "input": "hello"}
    url = f"{system.url}/api/v1/embeddings"
    first, second = (httpx2.post(url, json=ask, headers=headers, timeout=20) for _ in range(2))
    assert first.status_code == 200
    assert_replays(second, first)
    items = [{"operation": "geo.geocode", "params": {"q": name}} for name in ("Oslo", "Kyiv")]
    url, headers["Idempotency-Key"] = f"{system.url}/api/v1/batch", uuid7()
    first, second = (
        httpx2.post(url, json={"requests": items}, headers=headers, timeout=20) for _ in range(2)
    )
    assert first.status_code == second.status_code == 200
    assert second.content == first.content
    assert second.headers["idempotency-replayed"] == "true"


def begin(system: System, api_key: str, key: str, **body: Any) -> http.client.HTTPConnection:
    """A call that its provider never ends."""
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=20)
    headers = {
        "X-API-Key": api_key,
        "Content-Type": "application/json",
        "Idempotency-Key": key,
        "x-sandbox-fault": "endless" if body.get("stream") else "no_first_byte",
        "x-sandbox-pace-ms": "20",
    }
    connection.request("POST", CHAT, json.dumps({**ASK, **body}), headers)
    return connection


def retry(system: System, api_key: str, key: str, **body: Any) -> httpx2.Response:
    headers = {"X-API-Key": api_key, "Idempotency-Key": key}
    return httpx2.post(system.url + CHAT, json={**ASK, **body}, headers=headers, timeout=20)


def test_after_a_hang_up_it_is_told_where_to_look(system: System) -> None:
    api_key, key = system.visitor(), uuid7()
    connection = begin(system, api_key, key, stream=True)
    answer = connection.getresponse()
    request_id = answer.headers["x-request-id"]
    answer.readline()
    running = retry(system, api_key, key, stream=True)
    assert (running.status_code, running.headers["retry-after"]) == (409, "1")
    answer.close()
    connection.close()

    def lost() -> Any:
        answer = retry(system, api_key, key, stream=True)
        assert answer.status_code == 409
        return "retry-after" not in answer.headers and answer.json()["error"]

    url = eventually(lost)["status_url"]
    assert url == f"/api/v1/requests/{request_id}"
    told = httpx2.get(system.url + url, headers={"X-API-Key": api_key}, timeout=20)
    assert told.json()["code"] == "hung_up"


@pytest.mark.parametrize("stream", [False, True])
def test_a_gateway_that_was_killed_in_the_middle(
    new_system: Callable[..., System], stream: bool
) -> None:
    """The new process finds the key taken, and never asks the provider again."""
    system = new_system()
    api_key, key = system.visitor(), uuid7()
    connection = begin(system, api_key, key, stream=stream)
    in_flight = f"{system.sandbox_url}/_sandbox/calls"
    if stream:
        answer = connection.getresponse()
        answer.readline()
    else:
        eventually(lambda: b'"in_flight":1' in system.get(in_flight)[1].replace(b" ", b""))
    system.gateway.kill()
    connection.close()
    system.start_gateway()
    for _ in range(3):
        answer = retry(system, api_key, key, stream=stream)
        assert answer.status_code == 409
        assert answer.json()["error"]["status_url"].startswith("/api/v1/requests/")
    assert len(system.rows("SELECT * FROM usage_idempotentcall")) == 1
    whole = system.journal.read_text().rpartition("\n")[0]
    assert len(whole.splitlines()) <= 1
    if stream:
        url = system.url + answer.json()["error"]["status_url"]
        told = httpx2.get(url, headers={"X-API-Key": api_key}, timeout=20)
        assert told.json()["estimate"] == "crashed"


class Twins(OnPostgres):
    """Two gateway processes on one database."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, **settings)
        port = free_port()
        self.twin_url = f"http://127.0.0.1:{port}"
        self.twin = ServerProcess(
            [sys.executable, "-m", "uvicorn", "config.asgi:application", "--port", str(port)],
            self.folder / "twin.log",
            cwd=ROOT,
            env=self.environment,
        )

    def start(self, template: Path, applied: str = "") -> None:
        super().start(template, applied)
        self.twin.start(lambda: self.get(f"{self.twin_url}/readyz")[0] == 200)

    def stop(self) -> None:
        self.twin.stop()
        super().stop()


@pytest.fixture
def twins(postgres_server: Postgres, cluster_template: Path, tmp_path: Path) -> Iterator[Twins]:
    name = postgres_server.create_database(SYSTEM)
    twins = Twins(tmp_path, DATABASE_URL=postgres_server.url(name))
    try:
        twins.start(cluster_template)
        yield twins
    finally:
        twins.stop()
        postgres_server.drop_database(name)
        shutil.rmtree(tmp_path, ignore_errors=True)


def test_two_processes_on_postgresql_make_one_call(twins: Twins) -> None:
    api_key = twins.keys["acme/live"]
    urls = [twins.url, twins.twin_url]
    for stream in (False, True):
        key = uuid7()
        answers = asyncio.run(many(urls, api_key, key, stream=stream))
        assert_one_call(twins, answers)
        first = first_of(answers)
        for url in urls:
            headers = {"X-API-Key": api_key, "Idempotency-Key": f'"{key}"'}
            again = httpx2.post(url + CHAT, json={**ASK, "stream": stream}, headers=headers)
            assert_replays(again, first)
