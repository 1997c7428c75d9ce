"""Policies over /internal/v1/resilience: what is in force and why, and who may change it."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone
from rest_framework.test import APIClient

from api import vitals
from lib.models import Revision, Topic
from providers import snapshot, timing
from providers.breaker import State
from providers.models import Provider
from providers.presets import PRESETS
from tests.factories import (
    AttemptFactory,
    CredentialFactory,
    ProviderFactory,
    UsageRecordFactory,
    UserFactory,
)
from usage import rollups

pytestmark = pytest.mark.django_db
WHERE = "/internal/v1/resilience"
READ = ["presets", "presets/simple", "config", "providers/lab", "breakers", "metrics", "health",
        "benchmark"]  # fmt: skip


@pytest.fixture
def staff(as_user: Any) -> APIClient:
    client: APIClient = as_user(UserFactory(is_staff=True, email="staff@example.test"))
    return client


def got(client: APIClient, path: str, status: int = 200, **query: str) -> Any:
    answer = client.get(f"{WHERE}/{path}", query)
    assert answer.status_code == status, answer.content
    return answer.json()


def numbers(body: Any) -> dict[str, tuple[Any, str, str | None]]:
    return {row["path"]: (row["value"], row["origin"], row["preset"]) for row in body["numbers"]}


@pytest.mark.parametrize(
    ("who", "read", "write"),
    [
        ("staff", 200, 200),
        ("owner", 403, 403),
        ("*", 403, 403),
        ("manage:*", 403, 403),
        ("internal:read", 200, 403),
        ("internal:write", 403, 200),
        ("anonymous", 401, 401),
    ],
)
def test_viewers_look_and_do_not_change(who: str, read: int, write: int, clients: Any) -> None:
    provider, client = ProviderFactory(slug="lab", needs_credential=False), clients(who)
    for path in READ:
        assert client.get(f"{WHERE}/{path}").status_code == read, path
    where, body = f"{WHERE}/providers/lab", {"retry": {"max_attempts": 1}}
    assert client.post(f"{WHERE}/config/validate", body, format="json").status_code == write
    for ask in (client.put, client.patch):
        assert ask(where, body, format="json").status_code == write
    reason = {"reason": "r"}
    forced = client.post(f"{WHERE}/breakers/lab/close", reason, format="json")
    assert forced.status_code == (201 if write == 200 else write)
    provider.refresh_from_db()
    assert (provider.retry != {}) is (write == 200)


def test_presets(staff: APIClient) -> None:
    body = got(staff, "presets")
    assert [(row["name"], row["in_force"]) for row in body["data"]] == [
        ("simple", True),
        ("development", False),
        ("production", False),
    ]
    assert (body["next_cursor"], body["has_more"]) == (None, False)
    for row in body["data"]:
        assert got(staff, f"presets/{row['name']}") == row
        assert {part: row[part] for part in ("breaker", "retry")} == PRESETS[row["name"]]
    assert "simple, development" in got(staff, "presets/none", 404)["detail"]


def test_the_houses_policy_says_where_it_comes_from(staff: APIClient, settings: Any) -> None:
    settings.RESILIENCE_PRESET = "production"
    settings.RESILIENCE = {"breaker": {"open_seconds": 7}}
    body = got(staff, "config")
    assert (body["breaker"]["consecutive_failures"], body["retry"]["max_attempts"]) == (10, 5)
    told = numbers(body)
    assert told["breaker/open_seconds"] == (7, "house", None)
    assert told["breaker/consecutive_failures"] == (10, "environment", "production")
    assert told["retry/base_seconds"] == (1, "default", None)


def test_a_change_is_in_force_and_on_the_record(staff: APIClient) -> None:
    provider = ProviderFactory(slug="lab", breaker={"minimum_calls": 9}, source="builtin")
    before = Revision.numbers()[Topic.ROUTING]
    where = f"{WHERE}/providers/lab"
    body = {"breaker": {"preset": "development"}, "retry": {"budget_percent": 5}}
    told = staff.put(where, body, format="json").json()
    assert told == got(staff, "providers/lab")
    assert (told["provider"], told["own"]) == ("lab", body)
    assert numbers(told)["retry/max_attempts"] == (2, "provider", "development")
    assert numbers(told)["retry/budget_percent"] == (5, "provider", None)
    lab = snapshot.load().providers["lab"]
    assert (lab.retry.max_attempts, lab.breaker.target.consecutive_failures) == (2, 3)
    assert Revision.numbers()[Topic.ROUTING] > before
    patched = staff.patch(where, {"retry": {"max_attempts": 4}}, format="json").json()
    assert patched["own"] == {"breaker": body["breaker"], "retry": {"max_attempts": 4}}
    replaced = staff.put(where, {"retry": {}}, format="json").json()
    assert replaced["own"] == {"breaker": {}, "retry": {}}
    assert LogEntry.objects.filter(user__email="staff@example.test").count() == 3
    provider.refresh_from_db()
    assert provider.source == "operator"


REFUSED: list[tuple[Any, list[str]]] = [
    ({"retry": None}, ["/retry"]),
    ({"enabled": False}, ["/enabled"]),
    ({"breaker": {"window": {"type": "time", "calls": 5, "seconds": 1}}}, ["/breaker/window/calls"]),
    ({"breaker": {"preset": "none"}, "retry": {"max_attempts": 0, "base_ms": 1}}, ["/breaker/preset", "/retry/base_ms", "/retry/max_attempts"]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "pointers"), REFUSED, ids=[repr(b)[:40] for b, _ in REFUSED])
def test_a_refusal_points_at_every_fault(staff: APIClient, body: Any, pointers: list[str]) -> None:
    ProviderFactory(slug="lab")
    asked = [
        staff.post(f"{WHERE}/config/validate", body, format="json"),
        staff.put(f"{WHERE}/providers/lab", body, format="json"),
        staff.patch(f"{WHERE}/providers/lab", body, format="json"),
    ]
    for answer in asked:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert sorted(error["pointer"] for error in answer.json()["errors"]) == pointers
        assert all(error["detail"] for error in answer.json()["errors"])
    lab = Provider.objects.get(slug="lab")
    assert (lab.breaker, lab.retry) == ({}, {})


@pytest.mark.parametrize("body", [[], "x", 5], ids=repr)
def test_what_is_no_object_is_no_policy(staff: APIClient, body: Any) -> None:
    ProviderFactory(slug="lab", retry={"max_attempts": 1})
    for ask, path in ((staff.post, "config/validate"), (staff.put, "providers/lab")):
        answer = ask(f"{WHERE}/{path}", body, format="json")
        assert answer.status_code in (400, 415, 422)
    assert Provider.objects.get(slug="lab").retry == {"max_attempts": 1}


def test_a_policy_that_is_only_checked_changes_nothing(staff: APIClient) -> None:
    before = Revision.numbers()
    body = {"breaker": {"preset": "production"}}
    told = staff.post(f"{WHERE}/config/validate", body, format="json").json()
    assert told["valid"] is True
    assert (told["retry"]["max_attempts"], told["breaker"]["open_seconds"]) == (5, 120)
    assert Revision.numbers() == before


def test_nobody(staff: APIClient) -> None:
    got(staff, "providers/nobody", 404)
    assert staff.put(f"{WHERE}/providers/nobody", {}, format="json").status_code == 404


def test_what_was_tried_by_provider(staff: APIClient) -> None:
    now = timezone.now()
    for provider, verdicts in (("lab", ["timeout", "ok"]), ("lab2", ["timeout", "skipped_quota"])):
        row = UsageRecordFactory(attempts=2, code="x", status=503, created_at=now)
        for number, verdict in enumerate(verdicts, 1):
            AttemptFactory(
                request_id=row.request_id, number=number, provider=provider, verdict=verdict
            )
        UsageRecordFactory(provider=provider, created_at=now)
    UsageRecordFactory(created_at=now - dt.timedelta(minutes=90))
    UsageRecordFactory(created_at=now, mode="test")
    rollups.rebuild()
    body = got(staff, "metrics")
    tried = [
        (r["provider"], r["attempts"], r["failures"], r["retries"], r["fallbacks"])
        for r in body["data"]
    ]
    assert tried == [("lab", 3, 1, 1, 0), ("lab2", 2, 1, 0, 0)]
    assert body["data"][0]["latency_ms"]["p50"] > 0
    assert body["totals"] == {
        "attempts": 5,
        "failures": 2,
        "retries": 1,
        "fallbacks": 0,
        "failure_rate": 40.0,
    }
    assert body["breakers"]["open"] == 0
    assert got(staff, "metrics", minutes="120")["totals"]["attempts"] == 6
    for minutes in ("0", "1441", "-1", "x", "१", ""):
        errors = got(staff, "metrics", 400, minutes=minutes)["errors"]
        assert errors[0]["pointer"] == "/minutes"
    got(staff, "metrics", 400, hours="1")


def test_nothing_tried(staff: APIClient) -> None:
    body = got(staff, "metrics")
    assert body["data"] == [] and body["totals"]["failure_rate"] is None


def test_health(staff: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    states: dict[str, State] = {}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: states)
    assert got(staff, "health")["status"] == "ok"
    lab = CredentialFactory(provider__slug="lab")
    ProviderFactory(slug="keyless", needs_credential=False)
    ProviderFactory(slug="unusable")
    assert got(staff, "health")["status"] == "ok"
    states |= {"lab": State.OPEN, "test:7:keyless": State.OPEN}
    body = got(staff, "health")
    assert (body["status"], body["breakers"]["open"]) == ("degraded", 1)
    states |= {"keyless": State.FORCED_OPEN}
    assert got(staff, "health", 503)["status"] == "down"
    states["keyless"] = State.HALF_OPEN
    assert got(staff, "health")["status"] == "degraded"
    states.clear()
    lab.drained_at, lab.drained_reason = timezone.now(), "401 from the provider"
    lab.save()
    body = got(staff, "health")
    assert (body["status"], body["drained"][0]["provider"]) == ("degraded", "lab")
    assert body["drained"][0]["reason"] == "401 from the provider"
    assert lab.secret() not in str(body)
    Provider.objects.filter(slug="keyless").update(enabled=False)
    assert got(staff, "health", 503)["status"] == "down"
    CredentialFactory(provider=lab.provider)
    assert got(staff, "health")["status"] == "degraded"


def test_the_benchmark_says_what_it_measured(staff: APIClient) -> None:
    body = got(staff, "benchmark")
    assert body["took_ms"] > 0
    for name, most in (("breaker_decision", 5000), ("policy_merge", 200)):
        assert body[name]["microseconds"] > 0 and 20 <= body[name]["iterations"] <= most


def test_the_benchmark_is_short_however_slow_the_machine() -> None:
    assert timing._timed(lambda: time.sleep(0.002), 5000).iterations == 20


def test_breakers_are_the_same_at_both_places(staff: APIClient) -> None:
    ProviderFactory(slug="lab")
    made = staff.post(f"{WHERE}/breakers/lab/force-open", {"reason": "r"}, format="json")
    assert made.status_code == 201
    assert snapshot.load().breaker_overrides["lab"].state is State.FORCED_OPEN
    assert got(staff, "breakers") == staff.get("/internal/v1/breakers").json()
