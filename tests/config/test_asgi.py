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
    monkeypatch.setattr(vitals.WORKER, "breaker_figures", list)
    monkeypatch.setattr(vitals.WORKER, "in_flight", int)


def test_health_sees_the_gateways_breakers_and_calls(settings: object) -> None:
    environment: Environment = settings.ENV  # type: ignore[attr-defined]
    gateway = build(environment).gateway
    assert vitals.breakers_part()["resting"] == []
    gateway.dispatcher.breakers.of("lab/gpt-x").follow(State.OPEN, 60)
    gateway.dispatcher.breakers.of("lab2")
    gateway.observer.in_flight = 2
    assert vitals.breakers_part() == {
        "closed": 1,
        "open": 1,
        "half_open": 0,
        "disabled": 0,
        "forced_open": 0,
        "resting": [{"name": "lab/gpt-x", "state": "OPEN"}],
    }
    assert vitals.WORKER.in_flight() == 2
    assert [each.name for each in vitals.WORKER.breaker_figures()] == ["lab/gpt-x", "lab2"]
