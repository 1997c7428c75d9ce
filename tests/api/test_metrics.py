"""Who may read `/api/metrics`, and in which format."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from tests.factories import (
    ApiKeyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
OUTSIDE = {"REMOTE_ADDR": "203.0.113.5"}


def test_metrics_from_a_listed_network(anonymous: APIClient) -> None:
    answer = anonymous.get("/api/metrics")
    assert answer.status_code == 200
    names = {family.name for family in text_string_to_metric_families(answer.content.decode())}
    assert "python_info" in names
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert anonymous.get("/api/metrics", headers=wanted).content.endswith(b"# EOF\n")


def test_metrics_from_elsewhere(as_user: Any, with_key: Any, settings: Any) -> None:
    outside = APIClient(**OUTSIDE)
    assert outside.get("/api/metrics").status_code == 401
    forged = {"X-Forwarded-For": "127.0.0.1"}
    assert outside.get("/api/metrics", headers=forged).status_code == 401
    assert with_key(ApiKeyFactory()).get("/api/metrics", **OUTSIDE).status_code == 403
    assert as_user(UserFactory()).get("/api/metrics", **OUTSIDE).status_code == 403
    staff = as_user(UserFactory(is_staff=True))
    assert staff.get("/api/metrics", **OUTSIDE).status_code == 200


def test_metrics_with_the_token(settings: Any) -> None:
    outside = APIClient(**OUTSIDE)
    empty = {"Authorization": "Bearer "}
    assert outside.get("/api/metrics", headers=empty).status_code == 401
    settings.ENV = settings.ENV.model_copy(update={"METRICS_TOKEN": "scrape-me-please"})
    right = {"Authorization": "Bearer scrape-me-please"}
    wrong = {"Authorization": "Bearer scrape-me-pleasé"}
    assert outside.get("/api/metrics", headers=right).status_code == 200
    assert outside.get("/api/metrics", headers=wrong).status_code == 401


def test_metrics_behind_a_proxy(settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXY_HOPS": 1})
    client = APIClient(REMOTE_ADDR="127.0.0.1")
    real = {"X-Forwarded-For": "127.0.0.1, 203.0.113.5"}
    assert client.get("/api/metrics", headers=real).status_code == 401
    assert client.get("/api/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
@pytest.mark.parametrize("value", ["203.0.113.5", "127.0.0.1", "for=127.0.0.1", ""])
def test_metrics_behind_a_proxy_nobody_told_of(
    header: str, value: str, as_user: Any, settings: Any
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"METRICS_TOKEN": "scrape-me-please"})
    local, relayed = APIClient(REMOTE_ADDR="127.0.0.1"), {header: value}
    assert local.get("/api/metrics").status_code == 200
    assert local.get("/api/metrics", headers=relayed).status_code == 401
    with_token = {**relayed, "Authorization": "Bearer scrape-me-please"}
    assert local.get("/api/metrics", headers=with_token).status_code == 200
    staff = as_user(UserFactory(is_staff=True))
    assert staff.get("/api/metrics", headers=relayed).status_code == 200


def test_metrics_of_all_workers(anonymous: APIClient, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    answer = anonymous.get("/api/metrics")
    assert answer.status_code == 200
    assert b"python_info" not in answer.content
