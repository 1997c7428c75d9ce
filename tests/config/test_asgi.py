"""The whole application: what its data path knows of this worker, Django's side can tell."""

from __future__ import annotations

import pytest

from api import vitals
from config.asgi import build
from config.environment import Environment
from providers.breaker import State


@pytest.fixture(autouse=True)
def own_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals.WORKER, "breakers", dict)
    monkeypatch.setattr(vitals.WORKER, "in_flight", int)


def test_health_sees_the_gateways_breakers_and_calls(settings: object) -> None:
    environment: Environment = settings.ENV  # type: ignore[attr-defined]
    gateway = build(environment).gateway
    assert vitals.breakers_part()["resting"] == []
    gateway.dispatcher.breakers.of("lab/gpt-x").state = State.OPEN
    gateway.dispatcher.breakers.of("lab2")
    gateway.observer.in_flight = 2
    assert vitals.breakers_part() == {
        "closed": 1,
        "open": 1,
        "half_open": 0,
        "resting": [{"name": "lab/gpt-x", "state": "OPEN"}],
    }
    assert vitals.WORKER.in_flight() == 2
