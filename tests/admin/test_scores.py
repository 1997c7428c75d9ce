"""What each target's recent calls were like: a page of the admin, and /internal/v1/scores."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from api import vitals
from api.internal import scores as shown
from gateway.scores import Scores
from tests.clocks import ManualClock
from tests.factories import ApiKeyFactory, TargetFactory, UserFactory

pytestmark = pytest.mark.django_db
PAGE, API = "/admin/scores/", "/internal/v1/scores"


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Scores:
    known = Scores(ManualClock())
    monkeypatch.setattr(vitals.WORKER, "scores", known.as_documents)
    return known


def asked(*scopes: str) -> APIClient:
    client = APIClient()
    key = ApiKeyFactory(scopes=list(scopes))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key.text}")
    return client


def test_the_page_shows_what_is_known(browser: Client, scores: Scores) -> None:
    assert "Nothing yet" in browser.get(PAGE).content.decode()
    scores.answered("lab/<b>x", whole=1.25, cost=130, quality=0.5)
    scores.failed("lab/gpt-y", 0.1)
    scores.answered("test:7:lab/gpt-x", quality=0.9)
    page = browser.get(PAGE).content.decode()
    for figure in ("lab/&lt;b&gt;x", "1.25", "130.0", "0.5", "lab/gpt-y", "0.0"):
        assert f">{figure}</td>" in page
    assert "test:7" not in page


def test_many_are_cut_and_that_is_said(
    browser: Client, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "MOST_SHOWN", 3)
    for number in range(5):
        scores.rated(f"lab/{number}", 1.0)
    page = browser.get(PAGE).content.decode()
    assert "lab/2" in page and "lab/3" not in page and "And 2 more" in page


def test_the_targets_lead_to_it(browser: Client, scores: Scores) -> None:
    TargetFactory()
    page = browser.get(reverse("admin:providers_target_changelist")).content.decode()
    where = reverse("admin:providers_target_scores")
    assert where in page
    assert browser.get(where).headers["Location"] == PAGE


def test_only_staff_who_may_see_targets(scores: Scores) -> None:
    assert Client().get(PAGE).status_code == 302
    for fields, status in (({}, 302), ({"is_staff": True}, 403)):
        client = Client()
        client.force_login(UserFactory(**fields))
        assert client.get(PAGE).status_code == status


def test_over_the_api(scores: Scores) -> None:
    scores.answered("lab/gpt-x", first=0.5, quality=1.0)
    scores.rated("lab/gpt-x", 0.0)
    scores.answered("test:7:lab/gpt-x", quality=0.9)
    (told,) = asked("internal:read").get(API).json()["data"]
    expected: dict[str, Any] = {
        "name": "lab/gpt-x",
        "calls": 1.0,
        "success_rate": 1.0,
        "first_byte_seconds": 0.5,
        "seconds": None,
        "cost_microusd": None,
        "quality": 0.1667,
    }
    assert told == expected


def test_the_api_is_for_operators(scores: Scores) -> None:
    assert APIClient().get(API).status_code == 401
    assert asked("*").get(API).status_code == 403
