"""GET /usage/export: a tenant's own rows as a file, in pieces that fit together."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Role
from api.v1 import exports
from lib.ids import first_uuid7, uuid7
from tenants.models import Tenant
from tests.factories import ApiKeyFactory, TenantFactory, UsageRecordFactory, UserFactory

pytestmark = [
    pytest.mark.django_db,
    # The test client is synchronous; that it streams is shown in tests/chaos/test_export.py.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
]
NOW = dt.datetime.now(dt.UTC)
HOUR = dt.timedelta(hours=1)
OWN, ALL = "/api/v1/usage/export", "/internal/v1/usage/export"


def call(tenant: Tenant, at: dt.datetime = NOW - HOUR, **values: Any) -> str:
    request_id = first_uuid7(at.timestamp()) + uuid7()[13:]
    UsageRecordFactory(request_id=request_id, created_at=at, tenant_id=tenant.pk, **values)
    return request_id


def asked(client: APIClient, where: str = OWN, **query: str) -> Any:
    answer = client.get(where, query)
    assert answer.status_code == 200, answer.content
    return answer


def rows(answer: Any) -> list[dict[str, Any]]:
    body = b"".join(answer)
    if answer["Content-Type"].startswith("text/csv"):
        return list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    assert answer["Content-Type"] == "application/jsonl"
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize("role", Role.values)
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_tenants_have_their_own_and_never_the_cost(role: str, form: str, as_role: Any) -> None:
    key, other = ApiKeyFactory(), TenantFactory()
    mine = call(key.tenant, key_id=key.pk, project_id=key.project.pk, cost=424_242, markup=77)
    call(other, route="theirs")
    answer = asked(as_role(key.tenant, role), format=form)
    (row,) = found = rows(answer)
    assert (row["request_id"], row["key"]) == (mine, key.key_id)
    assert row["project"] == key.project.public_id
    assert "tenant" not in row
    assert not {name for name in row if name.startswith(("cost", "price", "markup"))}
    assert "424242" not in json.dumps(found)
    assert answer["Content-Disposition"] == f'attachment; filename="usage.{form}"'
    assert answer["Cache-Control"] == "no-store"
    assert "X-Next-Cursor" not in answer


@pytest.mark.parametrize("scopes", [["*"], ["chat.completions"], ["manage:keys"]])
def test_keys_have_their_tenants(scopes: list[str], with_key: Any) -> None:
    key = ApiKeyFactory(scopes=scopes)
    mine = call(key.tenant)
    call(TenantFactory())
    assert [row["request_id"] for row in rows(asked(with_key(key)))] == [mine]


def test_anothers_cursor_opens_nothing(as_role: Any) -> None:
    own, other = TenantFactory(), TenantFactory()
    theirs = call(other, NOW - 3 * HOUR)
    mine = call(own)
    call(other)
    client = as_role(own, "owner")
    assert [row["request_id"] for row in rows(asked(client, cursor=theirs))] == [mine]
    assert client.get(OWN, {"tenant": other.slug}).status_code == 400


def test_pieces_fit_together(as_role: Any) -> None:
    tenant = TenantFactory()
    ids = sorted(call(tenant, NOW - n * HOUR) for n in range(1, 8))
    client, cursor, found = as_role(tenant, "viewer"), "", []
    for expected in (3, 3, 1):
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        answer = asked(client, **query)
        piece = [row["request_id"] for row in rows(answer)]
        assert len(piece) == expected
        found += piece
        cursor = answer.get("X-Next-Cursor", "")
        assert cursor == (piece[-1] if expected == 3 else "")
    assert found == ids
    # From wherever a stream broke off.
    assert [row["request_id"] for row in rows(asked(client, cursor=ids[4].upper()))] == ids[5:]
    assert rows(asked(client, cursor=ids[-1])) == []


def test_the_last_minutes_are_left_out_unless_they_are_asked_for(as_role: Any) -> None:
    tenant = TenantFactory(time_zone="Asia/Kathmandu")
    now = dt.datetime.now(dt.UTC)  # not as it was when the tests began
    old, new = call(tenant, now - HOUR), call(tenant, now - dt.timedelta(minutes=5))
    client = as_role(tenant, "owner")
    assert [row["request_id"] for row in rows(asked(client))] == [old]
    told = {"to": (NOW + HOUR).isoformat(), "format": "jsonl"}
    assert [row["request_id"] for row in rows(asked(client, **told))] == [old, new]
    told["from"] = (NOW - HOUR / 2).isoformat()
    assert [row["request_id"] for row in rows(asked(client, **told))] == [new]
    assert rows(asked(client, **{"from": "2026-01-01", "to": "2026-01-02"})) == []


def test_days_are_the_tenants_own(as_role: Any) -> None:
    tenant = TenantFactory(time_zone="Asia/Kathmandu")
    midnight = dt.datetime(2026, 7, 1, 18, 15, tzinfo=dt.UTC)  # of 2 July there
    inside = call(tenant, midnight)
    call(tenant, midnight - dt.timedelta(milliseconds=1))
    last = call(tenant, midnight + 24 * HOUR - dt.timedelta(microseconds=1))
    call(tenant, midnight + 24 * HOUR)
    found = rows(asked(as_role(tenant, "owner"), **{"from": "2026-07-02", "to": "2026-07-02"}))
    assert [row["request_id"] for row in found] == [inside, last]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "xlsx"), ("format", ""), ("cursor", "1"), ("cursor", "' OR 1=1"),
        ("limit", "0"), ("limit", "100001"), ("limit", "-1"), ("limit", "٣"), ("limit", "1e3"),
        ("from", "yesterday"), ("to", "2026-13-01"), ("from", "2026-07-01T00:00:00"),
        ("mode", "live"), ("cost", "1"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_told(name: str, value: str, as_role: Any) -> None:
    answer = as_role(TenantFactory(), "owner").get(OWN, {name: value})
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"] == f"/{name}"


def test_from_is_before_to(as_role: Any) -> None:
    client = as_role(TenantFactory(), "owner")
    answer = client.get(OWN, {"from": "2026-07-02", "to": "2026-07-01"})
    assert answer.json()["errors"][0]["pointer"] == "/from"


def test_whatever_is_accepted(as_role: Any) -> None:
    client = as_role(TenantFactory(), "owner")
    for accepted in ("text/csv", "application/jsonl", "image/png"):
        assert client.get(OWN, headers={"Accept": accepted}).status_code == 200


def test_staff_has_all_of_them_with_the_cost(as_user: Any, with_key: Any) -> None:
    one, other = TenantFactory(), TenantFactory()
    ids = [call(one, NOW - 2 * HOUR, cost=5), call(other, cost=1_250_000, price_id=9)]
    staff = as_user(UserFactory(is_staff=True))
    assert staff.get(OWN).status_code == 403
    machine = with_key(ApiKeyFactory(scopes=["internal:read"]))
    for client in (staff, machine):
        found = rows(asked(client, ALL, format="jsonl"))
        assert [row["request_id"] for row in found] == ids
        assert [row["tenant"] for row in found] == [one.slug, other.slug]
        assert [row["cost_usd"] for row in found] == ["0.000005", "1.25"]
        (row,) = rows(asked(client, ALL, tenant=other.slug))
        assert (row["request_id"], row["price_id"]) == (ids[1], "9")
        assert client.get(ALL, {"tenant": "nobody"}).status_code == 400


@pytest.mark.parametrize(
    ("who", "status"), [("owner", 403), ("*", 403), ("manage:*", 403), ("anonymous", 401)]
)
def test_nobody_else_has(
    who: str, status: int, anonymous: Any, as_role: Any, with_key: Any
) -> None:
    made = {"owner": lambda: as_role(TenantFactory(), "owner"), "anonymous": lambda: anonymous}
    client = made.get(who, lambda: with_key(ApiKeyFactory(scopes=[who])))()
    assert client.get(ALL).status_code == status
    if who == "anonymous":
        assert client.get(OWN).status_code == status


def test_one_tenant_cannot_ask_all_the_time(as_role: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "EXPORTS", "2/m")
    tenant = TenantFactory()
    client = as_role(tenant, "owner")
    assert [client.get(OWN).status_code for _ in range(3)] == [200, 200, 429]
    assert as_role(TenantFactory(), "owner").get(OWN).status_code == 200
