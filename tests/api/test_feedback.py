"""What callers say of answers: of their own, once a call, and heard by the scores."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import Role
from lib.ids import uuid7
from tests.factories import ApiKeyFactory, TenantFactory, UsageRecordFactory, UserFactory
from usage import feedback
from usage.feedback_models import Feedback

pytestmark = pytest.mark.django_db


def where(record: Any) -> str:
    return f"/api/v1/requests/{record.request_id}/feedback"


def say(client: APIClient, record: Any, **body: Any) -> Any:
    return client.post(where(record), body, format="json")


@pytest.fixture
def record() -> Any:
    return UsageRecordFactory(tenant_id=TenantFactory().pk)


@pytest.fixture
def client(record: Any, with_key: Any) -> APIClient:
    key = ApiKeyFactory(tenant=TenantFactory._meta.model.objects.get(pk=record.tenant_id))
    made: APIClient = with_key(key)
    return made


@pytest.mark.parametrize(
    ("body", "score"),
    [
        ({"score": 0}, 0.0),
        ({"score": 1.0}, 1.0),
        ({"score": 0.25, "comment": "Half of it was made up."}, 0.25),
        ({"thumbs": "up"}, 1.0),
        ({"thumbs": "down", "comment": ""}, 0.0),
    ],
)
def test_said_and_kept(client: APIClient, record: Any, body: dict[str, Any], score: float) -> None:
    answer = say(client, record, **body)
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["request_id"], shown["score"]) == (record.request_id, score)
    row = Feedback.objects.get()
    assert (row.score, row.comment) == (score, body.get("comment", ""))
    assert (row.tenant_id, row.target) == (record.tenant_id, "lab/gpt-x")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"score": 1.01},
        {"score": -0.01},
        {"score": "NaN"},
        {"score": "Infinity"},
        {"score": None},
        {"score": "high"},
        {"score": 1, "thumbs": "up"},
        {"thumbs": "sideways"},
        {"score": 1, "comment": "x" * 501},
        {"score": 1, "comment": "a\x00b"},
        {"score": 1, "target": "other/model"},
        {"comment": "only"},
    ],
)
def test_nothing_else_is_taken(client: APIClient, record: Any, body: dict[str, Any]) -> None:
    assert say(client, record, **body).status_code in (400, 422)
    assert not Feedback.objects.exists()


def test_who_changes_their_mind_changes_the_row(client: APIClient, record: Any) -> None:
    assert say(client, record, thumbs="down", comment="no").status_code == 201
    for _ in range(3):
        answer = say(client, record, thumbs="up")
        assert (answer.status_code, answer.json()["score"]) == (200, 1.0)
    row = Feedback.objects.get()
    assert (row.score, row.comment) == (1.0, "")
    assert row.changed_at > row.created_at


@pytest.mark.parametrize("role", Role.values)
def test_roles(role: str, record: Any, as_role: Any) -> None:
    tenant = TenantFactory._meta.model.objects.get(pk=record.tenant_id)
    allowed = role in ("owner", "admin", "developer")
    assert say(as_role(tenant, role), record, score=1).status_code == (201 if allowed else 403)


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (["*"], 201),
        (["chat.*"], 201),
        (["chat.completions"], 201),
        (["finance.*"], 403),
        (["health:read"], 403),
        (["manage:keys"], 403),
        (["manage:tenant"], 201),
    ],
)
def test_rights(scopes: list[str], status: int, record: Any, with_key: Any) -> None:
    tenant = TenantFactory._meta.model.objects.get(pk=record.tenant_id)
    client = with_key(ApiKeyFactory(tenant=tenant, scopes=scopes))
    assert say(client, record, score=1).status_code == status


def test_of_own_calls_only(record: Any, with_key: Any, as_user: Any, anonymous: APIClient) -> None:
    stranger = with_key(ApiKeyFactory(tenant=TenantFactory()))
    nobody = anonymous
    staff = as_user(UserFactory(is_staff=True))
    for client, status in ((stranger, 404), (nobody, 401), (staff, 403)):
        assert say(client, record, score=0).status_code == status
    assert not Feedback.objects.exists()


def test_of_calls_that_somebody_answered(client: APIClient, record: Any) -> None:
    unanswered = UsageRecordFactory(tenant_id=record.tenant_id, provider="", model="", status=503)
    assert say(client, unanswered, score=0).status_code in (400, 422)
    unheard_of = UsageRecordFactory.build(request_id=uuid7())
    assert say(client, unheard_of, score=0).status_code == 404


def test_the_words_are_heard_in_order_and_each_once() -> None:
    records = [UsageRecordFactory(provider="lab", model=f"m{n}") for n in range(3)]
    for number, each in enumerate(records):
        feedback.give(record=each, score=number / 2)
    first = feedback.words_since(0)
    assert [(word.target, word.score) for word in first] == [
        ("lab/m0", 0.0),
        ("lab/m1", 0.5),
        ("lab/m2", 1.0),
    ]
    feedback.give(record=records[0], score=1.0)
    assert feedback.words_since(first[-1].number) == [], "a score is no ballot to be stuffed"


def test_a_worker_that_starts_hears_what_came_last_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_AT_ONCE", 2)
    for number in range(4):
        feedback.give(record=UsageRecordFactory(model=f"m{number}"), score=1.0)
    assert [word.target for word in feedback.words_since(0)] == ["lab/m2", "lab/m3"]
    Feedback.objects.update(created_at=timezone.now() - dt.timedelta(days=2))
    assert feedback.words_since(0) == []


def test_test_mode_rates_only_the_tenants_own_target(record: Any) -> None:
    tried = UsageRecordFactory(tenant_id=record.tenant_id, mode="test")
    data = UsageRecordFactory(provider="photon", model="")
    assert feedback.target_of(tried) == f"test:{record.tenant_id}:lab/gpt-x"
    assert feedback.target_of(data) == "photon"
