"""Which tests' lines are measured with `--cov`: to measure makes a test take up to three times as
long, so no line is measured over and over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

FIRST = 3  # of the examples that a test is repeated for, …
OF_ADAPTERS = 12  # … and of those that are answers and requests of providers, none like another


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """With xdist, pytest-cov began to measure what nobody asked for: the process that hands the
    tests out; and in the others a second time, which would go on where the first is paused. All
    of them import the same while they collect, so one is enough for that."""
    measuring = _controller(session.config)
    worker: str = getattr(session.config, "workerinput", {}).get("workerid", "")
    if measuring and (worker or session.config.getoption("dist", "no") != "no"):
        measuring.cov.stop()
    yield
    measuring = _controller(session.config)
    if measuring and worker not in ("", "gw0"):
        measuring.pause()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    examples: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        examples[test] += 1
        first = OF_ADAPTERS if "/adapters/" in test else FIRST
        if examples[test] > first or _is_left_to_chance(item) or _runs_apart(item):
            item.add_marker("unmeasured")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    measuring, wanted = _controller(item.config), not item.get_closest_marker("unmeasured")
    if measuring and measuring.started != wanted:
        measuring.resume() if wanted else measuring.pause()
    return (yield)


def _controller(config: pytest.Config) -> Any:
    """pytest-cov's, or None where nothing is measured."""
    return getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)


def _is_left_to_chance(item: pytest.Item) -> bool:
    """Random examples and kills reach other lines in every run: what is covered is what the
    named cases reach."""
    by_example = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return by_example or item.get_closest_marker("chaos") is not None


def _runs_apart(item: pytest.Item) -> bool:
    """What it tests runs in processes of its own, which are not measured; here are clients."""
    return not {"system_template", "cluster_template"}.isdisjoint(getattr(item, "fixturenames", ()))
