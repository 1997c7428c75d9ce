"""Breakers over /internal/v1: what staff see, what they say, and who is no staff."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone
from rest_framework.test import APIClient

from api import vitals
from providers import snapshot
from providers.breaker import State
from providers.breakers import Breakers
from providers.models import BreakerOverride, Provider
from tests.clocks import ManualClock
from tests.factories import ApiKeyFactory, ModelFactory, ProviderFactory, UserFactory

pytestmark = pytest.mark.django_db
WHERE = "/internal/v1/breakers"


@pytest.fixture
def staff(as_user: Any) -> APIClient:
    client: APIClient = as_user(UserFactory(is_staff=True, email="staff@example.test"))
    return client


def say(client: APIClient, name: str, action: str, **body: Any) -> Any:
    return client.post(f"{WHERE}/{name}/{action}", {"reason": "why not", **body}, format="json")


def test_each_action(staff: APIClient) -> None:
    ModelFactory(provider__slug="lab", model_id="org/gpt-x:free")
    states = {
        "force-open": "FORCED_OPEN",
        "disable": "DISABLED",
        "close": "CLOSED",
        "reset": "CLOSED",
    }
    for action, state in states.items():
        for name in ("lab", "lab/org/gpt-x:free"):
            answer = say(staff, name, action, seconds=60)
            assert answer.status_code == 201, answer.content
            told = answer.json()
            assert (told["name"], told["state"], told["by"]) == (name, state, "staff@example.test")
            assert (told["expires_at"] is None) == (state == "CLOSED")
            assert snapshot.load().breaker_overrides[name].state == state
    assert BreakerOverride.objects.count() == 8
    assert LogEntry.objects.count() == 8


def test_what_is_refused(staff: APIClient) -> None:
    ProviderFactory(slug="lab")
    assert say(staff, "nobody", "force-open").status_code == 404
    assert say(staff, "lab", "explode").status_code == 404
    wrong: list[dict[str, Any]] = [
        {"reason": ""},
        {"reason": " "},
        {"reason": "x" * 501},
        {"reason": None},
        {"seconds": 0},
        {"seconds": -1},
        {"seconds": 10**12},
        {"seconds": "soon"},
        {"state": "CLOSED"},
    ]
    for body in wrong:
        assert say(staff, "lab", "force-open", **body).status_code in (400, 422), body
    assert say(staff, "lab/none", "force-open").status_code in (400, 422)
    assert not BreakerOverride.objects.exists()


def test_only_operators(as_user: Any, with_key: Any, anonymous: APIClient) -> None:
    ProviderFactory(slug="lab")
    reader = with_key(ApiKeyFactory(scopes=["internal:read"]))
    writer = with_key(ApiKeyFactory(scopes=["internal:write"]))
    assert anonymous.get(WHERE).status_code == 401
    assert as_user(UserFactory()).get(WHERE).status_code == 403
    assert with_key(ApiKeyFactory(scopes=["*"])).get(WHERE).status_code == 403
    assert reader.get(WHERE).status_code == 200
    assert say(reader, "lab", "force-open").status_code == 403
    assert say(writer, "lab", "force-open").status_code == 201
    (row,) = BreakerOverride.objects.all()
    assert row.by.startswith("key ")


def test_the_latest_word_counts_until_it_ends(staff: APIClient) -> None:
    ProviderFactory(slug="lab")
    now = timezone.now()
    common = {"name": "lab", "reason": "r", "by": "me"}
    BreakerOverride.objects.create(state="DISABLED", **common)
    assert snapshot.load().breaker_overrides["lab"].state is State.DISABLED
    ended = now - dt.timedelta(seconds=1)
    BreakerOverride.objects.create(state="FORCED_OPEN", expires_at=ended, **common)
    assert "lab" not in snapshot.load().breaker_overrides


def test_what_this_worker_knows(staff: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    ProviderFactory(slug="lab")
    breakers = Breakers(ManualClock())
    breakers.of("lab/gpt-x").follow(State.OPEN, 30)
    breakers.of("lab")
    breakers.of("test:7:lab")
    monkeypatch.setattr(vitals.WORKER, "breaker_figures", breakers.figures)
    say(staff, "lab", "disable")
    lab, gpt = staff.get(WHERE).json()["data"]
    assert (lab["name"], lab["state"]) == ("lab", "CLOSED")
    assert lab["override"]["reason"] == "why not"
    assert (gpt["state"], gpt["seconds_left"], gpt["override"]) == ("OPEN", 30.0, None)
    assert gpt["policy"]["window"] == {"type": "count", "calls": 100}
    assert gpt["failure_rate"] is None


def test_a_policy_that_cannot_be_read_takes_no_provider_away() -> None:
    provider = ProviderFactory(slug="lab")
    Provider.objects.filter(pk=provider.pk).update(breaker={"preset": "no such"})
    assert snapshot.load().providers["lab"].breaker.target.consecutive_failures == 5
    Provider.objects.filter(pk=provider.pk).update(breaker={"preset": "production"})
    assert snapshot.load().providers["lab"].breaker.provider.consecutive_failures == 10
