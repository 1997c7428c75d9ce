"""API keys through the API: shown once, nowhere else; rotated, revoked, changed."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.utils import timezone
from rest_framework.test import APIClient

from tenants.keys import parse
from tenants.models import ApiKey
from tests.factories import ApiKeyFactory, ProjectFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(as_role: Any) -> APIClient:
    return as_role(ProjectFactory().tenant, "owner")


def make(client: APIClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/keys", {"name": "a key", **body}, format="json")
    assert answer.status_code == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def works(text: str) -> int:
    client = APIClient()
    return client.get("/api/v1/auth/status", headers={"X-API-Key": text}).status_code


def everything_stored() -> str:
    """Every row of every table, as text."""
    rows = [list(model._base_manager.values()) for model in apps.get_models()]
    return json.dumps(rows, default=str)


def test_a_key_is_shown_once_and_stored_nowhere(owner: APIClient, caplog: Any, capsys: Any) -> None:
    made = make(owner, mode="test", scopes=["finance.*"], allowed_ips=["127.0.0.0/8"])
    text = made["key"]
    assert parse(text)
    assert text.startswith("pb_test_")
    assert works(text) == 200
    secret = text.rpartition("_")[2]
    later = [
        owner.get("/api/v1/keys").content,
        owner.get(f"/api/v1/keys/{made['id']}").content,
        owner.patch(f"/api/v1/keys/{made['id']}", {"name": "b"}, format="json").content,
        owner.post(f"/api/v1/keys/{made['id']}/revoke").content,
        everything_stored().encode(),
        caplog.text.encode(),
        "".join(capsys.readouterr()).encode(),
    ]
    assert all(secret[:12].encode() not in place for place in later)


def test_defaults(owner: APIClient) -> None:
    made = make(owner)
    assert made["scopes"] == ["*"]
    assert made["mode"] == "live"
    assert made["expires_at"] is made["revoked_at"] is made["replaces"] is None
    assert made["hint"].endswith(made["key"][-4:])


def test_rotation_overlaps(owner: APIClient) -> None:
    old = make(owner, scopes=["finance.*"], allowed_ips=["127.0.0.0/8"])
    now = timezone.now()
    with time_machine.travel(now, tick=False):
        body = {"overlap_seconds": 60}
        answer = owner.post(f"/api/v1/keys/{old['id']}/rotate", body, format="json")
        fresh = answer.json()
        assert answer.status_code == 201
        assert fresh["replaces"] == old["id"]
        same = ("project", "name", "mode", "scopes", "allowed_ips")
        assert all(fresh[name] == old[name] for name in same)
        assert works(old["key"]) == works(fresh["key"]) == 200
    with time_machine.travel(now + dt.timedelta(seconds=59), tick=False):
        assert works(old["key"]) == 200
    with time_machine.travel(now + dt.timedelta(seconds=61), tick=False):
        assert (works(old["key"]), works(fresh["key"])) == (401, 200)


def test_rotation_without_overlap_revokes(owner: APIClient) -> None:
    old = make(owner)
    rotate = f"/api/v1/keys/{old['id']}/rotate"
    fresh = owner.post(rotate, {"overlap_seconds": 0}, format="json").json()
    assert (works(old["key"]), works(fresh["key"])) == (401, 200)
    assert owner.post(rotate, {"overlap_seconds": 0}, format="json").status_code == 422


def test_a_key_is_rotated_once(owner: APIClient) -> None:
    rotate = f"/api/v1/keys/{make(owner)['id']}/rotate"
    assert owner.post(rotate).status_code == 201
    assert owner.post(rotate).status_code == 422
    assert ApiKey.objects.count() == 2


def test_an_overlap_never_prolongs_a_key(owner: APIClient) -> None:
    soon = timezone.now() + dt.timedelta(minutes=1)
    old = make(owner, expires_at=soon.isoformat())
    owner.post(f"/api/v1/keys/{old['id']}/rotate", {"overlap_seconds": 86_400}, format="json")
    assert ApiKey.objects.get(public_id=old["id"][4:]).expires_at == soon


@pytest.mark.parametrize("overlap", [-1, 2_592_001, "soon", 10**30, 1.5, None])
def test_overlaps_out_of_range(owner: APIClient, overlap: Any) -> None:
    rotate = f"/api/v1/keys/{make(owner)['id']}/rotate"
    answer = owner.post(rotate, {"overlap_seconds": overlap}, format="json")
    assert answer.status_code == 422
    assert ApiKey.objects.count() == 1


def test_revocation_holds_at_once_and_for_ever(owner: APIClient) -> None:
    made = make(owner)
    assert works(made["key"]) == 200
    revoked = owner.post(f"/api/v1/keys/{made['id']}/revoke")
    assert revoked.json()["revoked_at"]
    assert works(made["key"]) == 401
    again = owner.delete(f"/api/v1/keys/{made['id']}")
    assert again.status_code == 204
    assert ApiKey.objects.get().revoked_at.isoformat()[:19] == revoked.json()["revoked_at"][:19]
    changed = owner.patch(f"/api/v1/keys/{made['id']}", {"name": "x"}, format="json")
    assert changed.status_code == 422


def test_changes_hold_at_once(owner: APIClient) -> None:
    made = make(owner)
    where = f"/api/v1/keys/{made['id']}"
    assert works(made["key"]) == 200
    owner.patch(where, {"allowed_ips": ["198.51.100.0/24"]}, format="json")
    assert works(made["key"]) == 403
    soon = (timezone.now() + dt.timedelta(seconds=30)).isoformat()
    owner.patch(where, {"allowed_ips": [], "expires_at": soon}, format="json")
    assert works(made["key"]) == 200
    with time_machine.travel(timezone.now() + dt.timedelta(seconds=31)):
        assert works(made["key"]) == 401


def test_the_expiry_is_kept_or_taken_away_as_said(owner: APIClient) -> None:
    soon = (timezone.now() + dt.timedelta(days=1)).isoformat()
    where = f"/api/v1/keys/{make(owner, expires_at=soon)['id']}"
    assert owner.patch(where, {"name": "b"}, format="json").json()["expires_at"]
    assert owner.patch(where, {"expires_at": None}, format="json").json()["expires_at"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 121),
        ("name", "a\0b"),
        ("mode", "production"),
        ("scopes", "*"),
        ("scopes", [1, {}]),
        ("scopes", ["*", "finance quote"]),
        ("scopes", ["x" * 101]),
        ("allowed_ips", ["not a network"]),
        ("allowed_ips", ["10.0.0.1/8"]),
        ("allowed_ips", ["10.0.0.0/33"]),
        ("expires_at", "2001-01-01T00:00:00Z"),
        ("expires_at", "tomorrow"),
        ("project", "prj_nothing"),
        ("project", "x" * 41),
    ],
)
def test_bad_fields(owner: APIClient, field: str, value: Any) -> None:
    answer = owner.post("/api/v1/keys", {"name": "x", field: value}, format="json")
    assert answer.status_code == 422, answer.content
    assert answer.json()["errors"][0]["pointer"].startswith(f"/{field}")
    assert not ApiKey.objects.exists()


def test_junk_costs_no_look_up(django_assert_num_queries: Any, with_key: Any) -> None:
    key = ApiKeyFactory()
    flipped = key.text[:-1] + ("A" if key.text[-1] != "A" else "B")
    with django_assert_num_queries(1):  # the revision, which every management call reads
        assert works(flipped) == 401


def test_lists_cost_the_same_for_many(owner: APIClient, django_assert_max_num_queries: Any) -> None:
    tenant = ProjectFactory._meta.model.objects.get().tenant
    for _ in range(3):
        ApiKeyFactory(tenant=tenant)
    owner.get("/api/v1/keys")
    with django_assert_max_num_queries(2):
        assert len(owner.get("/api/v1/keys").json()["data"]) == 3
    for _ in range(20):
        ApiKeyFactory(tenant=tenant)
    owner.get("/api/v1/keys")
    with django_assert_max_num_queries(2):
        assert len(owner.get("/api/v1/keys").json()["data"]) == 23
