"""Pages: complete, in order, bounded; a forged cursor is an error, never a crash."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from tests.factories import ProjectFactory, TenantFactory

pytestmark = pytest.mark.django_db


def test_walking_finds_every_row_once(as_role: Any) -> None:
    tenant = TenantFactory()
    expected = [ProjectFactory(tenant=tenant).public_id for _ in range(7)][::-1]
    client, found, query = as_role(tenant, "owner"), [], {"limit": "3"}
    for _ in range(3):
        page = client.get("/api/v1/projects", query).json()
        assert page.keys() == {"data", "next_cursor", "has_more"}
        assert page["has_more"] is (page["next_cursor"] is not None)
        found += [row["id"] for row in page["data"]]
        ProjectFactory(tenant=tenant)  # what comes meanwhile moves no page
        query["cursor"] = page["next_cursor"]
    assert found == expected


@pytest.mark.parametrize("limit", ["0", "-1", "101", "x", "", "1e1", "١", "1" * 400])
def test_bad_limits(limit: str, as_role: Any) -> None:
    answer = as_role(TenantFactory(), "owner").get("/api/v1/projects", {"limit": limit})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "cursor", ["", "x", "null", "AAAA", "é", "a" * 5000, base64.b64encode(b"\xff" * 8).decode()]
)
def test_bad_cursors(cursor: str, as_role: Any) -> None:
    answer = as_role(TenantFactory(), "owner").get("/api/v1/projects", {"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/cursor"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.binary(max_size=12).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    from api.pagination import _decode

    with contextlib.suppress(InvalidRequest):
        assert 0 <= _decode(text) < 2**63
