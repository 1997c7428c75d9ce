"""The stores the tests run on are real: they answer, they die, and they come back."""

from __future__ import annotations

import psycopg
import pytest
import redis

from tests.services.postgres import Postgres
from tests.services.valkey import Valkey


def test_valkey_answers_and_dies_and_comes_back(valkey: Valkey) -> None:
    client = valkey.client()
    client.set("a", "1")
    assert client.get("a") == b"1"
    assert client.info("server")["server_name"] == "valkey"
    valkey.kill()
    with pytest.raises(redis.ConnectionError):
        valkey.client().ping()
    valkey.start()
    assert valkey.client().get("a") is None


def test_each_test_gets_an_empty_valkey(valkey: Valkey) -> None:
    assert valkey.client().dbsize() == 0


def test_postgres_has_our_tables(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SELECT count(*) FROM usage_usagerecord").fetchone()
    assert row == (0,)


def test_what_postgres_committed_survives_a_kill(postgres: Postgres) -> None:
    name = postgres.create_database()
    with psycopg.connect(postgres.url(name)) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        connection.execute("INSERT INTO kept VALUES (7)")
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")
    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres.url(name), connect_timeout=1)
    postgres.start()
    with psycopg.connect(postgres.url(name)) as connection:
        assert connection.execute("SELECT id FROM kept").fetchall() == [(7,)]
    postgres.drop_database(name)
