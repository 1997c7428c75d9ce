"""Both kinds of counters for the tests that are about both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.usage.counters.stage import OneClock
from tests.usage.counters.trial import NewTrial, Trial


@pytest.fixture(scope="module", params=["memory", "shared"])
def new_trial(request: pytest.FixtureRequest) -> Iterator[NewTrial]:
    """Makes trials, each instead of the one before: `new_trial(clock)`, or the moment
    (µs) at which their own clock begins."""
    server = None
    if request.param == "shared":
        server = request.getfixturevalue("valkey_server")
        if not server.running:
            server.start()
    made: list[Trial] = []
    with asyncio.Runner() as runner:

        def make(clock: OneClock | int | None = None) -> Trial:
            while made:
                made.pop().close()
            made.append(Trial(runner, server, clock))
            return made[0]

        yield make
        for trial in made:
            trial.close()
