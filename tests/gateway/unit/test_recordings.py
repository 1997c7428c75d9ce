"""Every recorded answer, called through the gateway, comes to what it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from tests.gateway.unit.recordings import (
    OTHERWISE,
    Recording,
    Result,
    all_called,
    many_rigs,
    recordings,
)
from tests.gateway.unit.recordings_page import PAGE, page

EVERYTHING = recordings()
STRANGERS = [recording for recording in EVERYTHING if recording.not_ours]


@pytest.fixture(scope="module")
def results() -> Iterator[Sequence[Result]]:
    with many_rigs() as make_rig:
        yield asyncio.run(asyncio.wait_for(all_called(make_rig), 120))


def name_of(recording: Recording) -> str:
    return f"{recording.path}: {recording.at} {recording.operation}"


def test_each_comes_to_data_or_to_the_right_outcome(results: Sequence[Result]) -> None:
    wrong = [f"{name_of(each.recording)}: {each.verdict}" for each in results if not each.is_right]
    assert wrong == []


def test_all_are_called_or_are_of_nobody_of_ours(results: Sequence[Result]) -> None:
    called = {result.recording.path for result in results}
    assert len(EVERYTHING) >= 448
    assert called.isdisjoint(each.path for each in STRANGERS)
    assert len(called) + len(STRANGERS) == len(EVERYTHING)


def test_what_is_known_to_be_otherwise_is_there(results: Sequence[Result]) -> None:
    assert set(OTHERWISE) <= {result.recording.path for result in results}


def test_the_page_is_current(results: Sequence[Result], request: pytest.FixtureRequest) -> None:
    """`--long` prints it, `--write` (which is `make provider-docs`) writes it."""
    made = page(results, STRANGERS)
    if request.config.getoption("--write"):
        PAGE.write_text(made, "utf-8")
    if request.config.getoption("--long"):
        print(made)
    assert PAGE.read_text("utf-8") == made, "run: make provider-docs"
