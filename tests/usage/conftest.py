"""Ledgers in real databases: a SQLite file and a PostgreSQL, with Django reading the same rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from pytest_django import DjangoDbBlocker

from config.database import database
from tests.services.postgres import Postgres
from usage.journals import journal_for
from usage.ledger import Journal
from usage.models import Attempt, OpenCall, UsageRecord

ALIAS = "ledger"


class Store:
    """One database with Patchbay's tables, as the journal writes it and as Django reads it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @property
    def path(self) -> str:
        return str(self.settings["NAME"])

    def journal(self) -> Journal:
        return journal_for(self.settings)

    @property
    def records(self) -> list[UsageRecord]:
        return list(UsageRecord.objects.using(ALIAS).order_by("request_id"))

    @property
    def attempts(self) -> list[Attempt]:
        return list(Attempt.objects.using(ALIAS).order_by("request_id", "number"))

    @property
    def open_calls(self) -> list[OpenCall]:
        return list(OpenCall.objects.using(ALIAS).order_by("request_id"))

    @property
    def request_ids(self) -> list[str]:
        return [record.request_id for record in self.records]


def reading(settings: dict[str, Any], blocker: DjangoDbBlocker) -> Iterator[Store]:
    """A store that Django sees under ALIAS while the fixture lives."""
    whole = connections["default"].settings_dict | settings
    connections.settings[ALIAS] = whole
    try:
        with blocker.unblock():
            yield Store(whole)
            connections[ALIAS].close()
    finally:
        del connections[ALIAS]
        del connections.settings[ALIAS]


@pytest.fixture
def sqlite_store(
    sqlite_tables: Path, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> Iterator[Store]:
    path = tmp_path / "ledger.sqlite3"
    shutil.copy(sqlite_tables, path)
    yield from reading(database(f"sqlite:///{path}", Path("/")), django_db_blocker)


@pytest.fixture
def postgres_store(postgres_url: str, django_db_blocker: DjangoDbBlocker) -> Iterator[Store]:
    """As it runs in production: what is committed is on disk, though the server is killed."""
    settings = database(f"{postgres_url}?options=-csynchronous_commit%3Don", Path("/"))
    del settings["OPTIONS"]["pool"]
    yield from reading(settings, django_db_blocker)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """The same test on each of them."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def server(postgres: Postgres) -> Postgres:
    """The PostgreSQL that `postgres_store` lives in, to be killed."""
    return postgres
