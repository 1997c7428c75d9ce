"""Fixtures that all tests share: the real stores, started only for the tests that ask."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

    from providers.catalogue import CatalogueFile

# How long one example takes says more about what else runs on the machine than about the code.
hypothesis.settings.register_profile("patchbay", deadline=None)
hypothesis.settings.load_profile("patchbay")

gc.set_threshold(20_000, 20, 50)  # as the gateway has it

pytest_plugins = [
    "tests.measuring",
    "tests.services.valkey",
    "tests.services.postgres",
    "tests.services.templates",
    "tests.services.system",
    "tests.services.cluster",
    "tests.chaos.reporting",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the chaos tests in their long form")
    parser.addoption("--write", action="store_true", help="write the pages that tests keep true")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        items[:] = [item for item in items if item.get_closest_marker("only_long") is None]


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported and collected stays to the end: to look through it for garbage again and
    again takes a tenth of the time. What the tests leave behind is still looked through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether this is `make chaos`, which may take its time."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="module")
def shipped(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Sequence[CatalogueFile]]:
    """The catalogue, with which every test of the file finds the database: to load it takes
    longer than most of them, and each leaves it as it was. A file that names slugs in SHIPPED
    has those only."""
    from django.db import transaction

    from api.configuration import catalogue
    from tests.shipped import FILES

    wanted = getattr(request.module, "SHIPPED", None)
    files = [file for file in FILES if wanted is None or file.slug in wanted]
    with django_db_blocker.unblock(), transaction.atomic():
        catalogue.load(files)
        yield files
        transaction.set_rollback(True)
