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
    "tests.services.valkey",
    "tests.services.postgres",
    "tests.services.templates",
    "tests.services.system",
    "tests.services.cluster",
    "tests.chaos.reporting",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the chaos tests in their long form")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """With xdist, pytest-cov began to measure what nobody asked for: the process that hands the
    tests out; and in the others a second time, which would go on where `no_cover` ends the first.
    """
    shared_out = session.config.getoption("dist", "no") != "no"
    if shared_out or hasattr(session.config, "workerinput"):
        measuring = session.config.pluginmanager.getplugin("_cov")
        if measuring is not None and measuring.cov_controller:
            measuring.cov_controller.cov.stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        items[:] = [item for item in items if item.get_closest_marker("only_long") is None]
    for item in items:
        if _is_left_to_chance(item) or _runs_apart(item):
            item.add_marker("no_cover")  # whose measuring makes it take three times as long


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported and collected stays to the end: to look through it for garbage again and
    again takes a tenth of the time. What the tests leave behind is still looked through."""
    gc.collect()
    gc.freeze()


def _is_left_to_chance(item: pytest.Item) -> bool:
    """Random examples and kills reach other lines in every run: what is covered is what the
    named cases reach."""
    by_example = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return by_example or item.get_closest_marker("chaos") is not None


def _runs_apart(item: pytest.Item) -> bool:
    """What it tests runs in processes of its own, which are not measured; here are clients."""
    return not {"system_template", "cluster_template"}.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether this is `make chaos`, which may take its time."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="module")
def shipped(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[Sequence[CatalogueFile]]:
    """The catalogue, with which every test of the file finds the database: to load it takes
    longer than most of them, and each leaves it as it was."""
    from django.db import transaction

    from api.configuration import catalogue
    from tests.shipped import FILES

    with django_db_blocker.unblock(), transaction.atomic():
        catalogue.load(FILES)
        yield FILES
        transaction.set_rollback(True)
