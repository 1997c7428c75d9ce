"""A rig for each test, with keys that are looked up in memory instead of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from accounts.credentials import KeyCredential
from tests.gateway.unit.rig import Callers, Rig


@pytest.fixture
def make_rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rig]]:
    """Makes rigs with options of their own (gateway.app.Options)."""
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        callers = Callers()
        monkeypatch.setattr(KeyCredential, "find", lambda shown: callers.find(shown.name))
        made.append(Rig(callers, **options))
        return made[-1]

    yield make
    for rig in made:
        asyncio.run(asyncio.wait_for(rig.gateway.stop(), 10))


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
