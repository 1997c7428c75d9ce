"""Fixtures that all tests share: the real stores, started only for the tests that ask."""

import hypothesis
import pytest

# How long one example takes says more about what else runs on the machine than about the code.
hypothesis.settings.register_profile("patchbay", deadline=None)
hypothesis.settings.load_profile("patchbay")

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        items[:] = [item for item in items if item.get_closest_marker("only_long") is None]
    for item in items:
        if _is_left_to_chance(item):
            item.add_marker("no_cover")


def _is_left_to_chance(item: pytest.Item) -> bool:
    """Random examples and kills reach other lines in every run. What is covered is what the
    named cases reach; besides, measuring makes a thousand examples take three times as long."""
    by_example = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return by_example or item.get_closest_marker("chaos") is not None


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether this is `make chaos`, which may take its time."""
    return bool(request.config.getoption("--long"))
