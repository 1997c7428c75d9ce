"""The same system on PostgreSQL and Valkey: calls, their rows, and a database that goes away."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.patience import eventually
from tests.services.postgres import SYSTEM, Postgres
from tests.services.system import System
from tests.services.valkey import Valkey
from usage.ledger import PATIENCE

CHAT = "/api/v1/chat/completions"
ASK = {"model": "lab/gpt-x", "messages": [{"role": "user", "content": "hello there, gateway"}]}


class OnPostgres(System):
    """Its database is a copy of SYSTEM, made by who makes it."""

    def start(self, template: Path, applied: str = "") -> None:
        self.configure(template, applied)
        self.start_gateway()

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        url = self.environment["DATABASE_URL"]
        with psycopg.connect(url, row_factory=dict_row) as connection:
            return connection.execute(statement.replace("?", "%s"), parameters).fetchall()


@pytest.fixture(scope="module")
def system(
    postgres_server: Postgres,
    cluster_template: Path,
    valkey_server: Valkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """One for all tests here: each leaves the database running."""
    name = postgres_server.create_database(SYSTEM)
    folder = tmp_path_factory.mktemp("on-postgresql")
    settings = {"DATABASE_URL": postgres_server.url(name), "REDIS_URL": valkey_server.url}
    system = OnPostgres(folder, **settings)
    try:
        system.start(cluster_template)
        yield system
    finally:
        system.stop()
        postgres_server.drop_database(name)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def client(system: System) -> Iterator[httpx2.Client]:
    headers = {"X-API-Key": system.keys["acme/live"]}
    with httpx2.Client(base_url=system.url, headers=headers, timeout=20) as client:
        yield client


def test_a_json_call_and_its_row(client: httpx2.Client, system: System) -> None:
    answer = client.post(CHAT, json=ASK)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    row = system.record(answer.headers["x-request-id"])
    cost = usage["prompt_tokens"] * 1 + usage["completion_tokens"] * 2  # µUSD a token
    assert row["charge"] == row["cost"] == cost > 0
    assert row["input_tokens"] == usage["prompt_tokens"]
    assert row["output_tokens"] == usage["completion_tokens"]
    assert (row["provider"], row["model"], row["route"]) == ("lab", "gpt-x", "lab/gpt-x")
    assert (row["status"], row["code"], row["streamed"], row["estimate"]) == (200, "ok", False, "")
    age = time.time() - row["created_at"].timestamp()
    assert 0 <= age < 30


def test_a_streamed_call_and_its_row(client: httpx2.Client, system: System) -> None:
    body = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
    answer = client.post(CHAT, json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    usage = json.loads(answer.text.split("data: ")[-2])["usage"]
    request_id = answer.headers["x-request-id"]
    row = system.record(request_id)
    assert (row["input_tokens"], row["output_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert (row["status"], row["code"], row["streamed"], row["estimate"]) == (200, "ok", True, "")
    assert system.rows("SELECT * FROM usage_opencall WHERE request_id = ?", request_id) == []


def test_a_fallback_and_its_attempts(system: System) -> None:
    headers = {"X-API-Key": system.visitor(), "x-sandbox-fault": "provider=lab;status=500"}
    answer = httpx2.post(
        system.url + CHAT, json={**ASK, "model": "lab-chat"}, headers=headers, timeout=20
    )
    assert answer.status_code == 200
    attempts = system.rows(
        "SELECT provider, verdict FROM usage_attempt WHERE request_id = ? ORDER BY number",
        answer.headers["x-request-id"],
    )
    assert [(row["provider"], row["verdict"]) for row in attempts] == [
        ("lab", "upstream_unavailable"),
        ("lab2", "ok"),
    ]


def test_hanging_up_is_billed_for_what_came(system: System) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=10)
    headers = {
        "X-API-Key": system.visitor(),
        "Content-Type": "application/json",
        "x-sandbox-fault": "endless",
        "x-sandbox-pace-ms": "20",
    }
    connection.request("POST", CHAT, json.dumps({**ASK, "stream": True}), headers)
    answer = connection.getresponse()
    request_id = answer.headers["x-request-id"]
    for _ in range(6):
        answer.readline()
    answer.close()
    connection.close()
    eventually(
        lambda: system.rows("SELECT 1 FROM usage_usagerecord WHERE request_id = ?", request_id)
    )
    row = system.record(request_id)
    assert (row["status"], row["code"], row["estimate"]) == (499, "hung_up", "hung_up")
    assert row["output_tokens"] > 0
    assert system.rows("SELECT * FROM usage_opencall WHERE request_id = ?", request_id) == []


def test_many_at_once_are_each_billed_once(system: System) -> None:
    async def burst() -> list[str]:
        limits = httpx2.Limits(max_connections=40)
        async with httpx2.AsyncClient(base_url=system.url, limits=limits, timeout=30) as client:
            headers = {"X-API-Key": system.keys["acme/live"]}
            calls = [
                client.post(CHAT, json={**ASK, "stream": n % 2 == 0}, headers=headers)
                for n in range(80)
            ]
            answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {200}
        return [answer.headers["x-request-id"] for answer in answers]

    ids = asyncio.run(burst())
    rows = system.rows(
        "SELECT request_id FROM usage_usagerecord WHERE request_id = ANY(?) AND code = 'ok'", ids
    )
    assert sorted(row["request_id"] for row in rows) == sorted(ids)


def kill(postgres: Postgres) -> None:
    """As a crash would; but the tests' server does not sync what it commits, so that first."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    postgres.kill()


def test_without_the_database_no_answer_and_then_answers_again(
    client: httpx2.Client, system: System, postgres: Postgres
) -> None:
    """The key was seen lately, so the call gets as far as the ledger."""
    assert client.post(CHAT, json=ASK).status_code == 200
    before = system.rows("SELECT count(*) AS n FROM usage_usagerecord")[0]["n"]
    kill(postgres)
    try:
        begun = time.monotonic()
        answer = client.post(CHAT, json=ASK)
        assert time.monotonic() - begun < PATIENCE + 4
        assert answer.status_code == 503, answer.text
        assert answer.json()["error"]["code"] == "store_unavailable"
        assert int(answer.headers["retry-after"]) > 0
        ready = httpx2.get(f"{system.url}/readyz")
        assert ready.status_code == 503
        assert "database" in ready.json()["degraded"]
        assert httpx2.get(f"{system.url}/livez").status_code == 200
    finally:
        postgres.start()
    eventually(lambda: client.post(CHAT, json=ASK).status_code == 200, 10)
    eventually(lambda: httpx2.get(f"{system.url}/readyz").status_code == 200, 5)
    assert client.post(CHAT, json={**ASK, "stream": True}).text.endswith("data: [DONE]\n\n")
    after = system.rows("SELECT count(*) AS n FROM usage_usagerecord")[0]["n"]
    assert after >= before + 2


def test_a_key_not_seen_lately_while_the_database_is_away(
    system: System, postgres: Postgres
) -> None:
    headers = {"X-API-Key": system.visitor()}
    kill(postgres)
    try:
        answer = httpx2.post(system.url + CHAT, json=ASK, headers=headers, timeout=30)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store_unavailable"
        management = httpx2.get(f"{system.url}/api/v1/keys", headers=headers, timeout=30)
        assert management.status_code == 503
        assert management.headers["content-type"] == "application/problem+json"
        assert management.json()["code"] == "store_unavailable"
    finally:
        postgres.start()
    eventually(
        lambda: httpx2.post(system.url + CHAT, json=ASK, headers=headers).status_code == 200, 10
    )
