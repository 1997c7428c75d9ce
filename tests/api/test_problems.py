"""Every kind of error, whoever makes it, is a problem document with nothing secret in it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import structlog
from django.db import OperationalError
from django.test import Client
from django.urls import include, path
from rest_framework.test import APIClient
from rest_framework.views import APIView

from lib.ids import is_uuid
from lib.problems import TITLES
from tests.factories import ApiKeyFactory, ProjectFactory, UserFactory

pytestmark = pytest.mark.django_db
REQUIRED = {"type", "title", "status", "detail", "code", "request_id", "timestamp"}


class Boom(Exception):
    pass


class Crash(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def get(self, request: Any) -> Any:
        raise Boom("the-secret-in-the-exception")


class Away(Crash):
    def get(self, request: Any) -> Any:
        raise OperationalError("password=the-secret-in-the-exception host=db")


def plain_crash(request: Any) -> Any:
    raise Boom("the-secret-in-the-exception")


urlpatterns = [
    path("api/crash", Crash.as_view()),
    path("api/away", Away.as_view()),
    path("api/plain-crash", plain_crash),
    path("", include("config.urls")),
]


def check(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.content)
    assert body.keys() >= REQUIRED
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"] == TITLES[code]
    assert body["type"] == f"/docs/errors#{code}"
    assert body["request_id"] == answer["X-Request-Id"]
    assert uuid.UUID(body["request_id"]).version == 7
    assert "the-secret" not in answer.content.decode()
    return body


@pytest.mark.parametrize("where", ["/nothing", "/api/v1/nothing", "/api/nothing", "/internal/v1/x"])
def test_not_found(anonymous: APIClient, where: str) -> None:
    check(anonymous.get(where), 404, "not_found")


def test_method_not_allowed_names_the_methods(anonymous: APIClient) -> None:
    refused = anonymous.get("/api/v1/auth/login")
    check(refused, 405, "method_not_allowed")
    assert "POST" in refused["Allow"]
    plain = anonymous.post("/api/metrics")
    check(plain, 405, "method_not_allowed")
    assert "GET" in plain["Allow"]
    check(anonymous.options("/api/v1/auth/login"), 405, "method_not_allowed")
    check(anonymous.post("/docs/errors"), 405, "method_not_allowed")


def test_unauthenticated_says_how(anonymous: APIClient) -> None:
    refused = anonymous.get("/api/v1/keys")
    check(refused, 401, "unauthenticated")
    assert refused["WWW-Authenticate"] == "Bearer"
    nonsense = {"Authorization": "Basic dXNlcjpwYXNz"}
    check(anonymous.get("/api/v1/keys", headers=nonsense), 401, "unauthenticated")


def test_csrf_and_suspicious_requests() -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    user = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    check(client.post("/docs", {"a": "b"}), 403, "forbidden")
    check(client.get("/api/v1/health", headers={"Host": "evil.example"}), 400, "invalid_request")


def test_not_acceptable(anonymous: APIClient) -> None:
    refused = anonymous.get("/api/v1/health", headers={"Accept": "text/csv"})
    check(refused, 406, "not_acceptable")


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_request"),
        (b'{"email": NaN}', "application/json", 400, "invalid_request"),
        (b'{"email": "\\ud800"}', "application/json", 400, "invalid_request"),
        (b"\xff\xfe", "application/json", 400, "invalid_request"),
        (b"[]", "application/json", 400, "invalid_request"),
        (b"null", "application/json", 400, "invalid_request"),
        (b"[" * 100_000, "application/json", 400, "invalid_request"),
        (b'{"a":' * 100_000, "application/json", 400, "invalid_request"),
        (b"", "application/json", 422, "invalid_request"),
        (b"email=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"<a/>", "application/xml", 415, "unsupported_media_type"),
        (b" " * (3 * 1024 * 1024), "application/json", 413, "payload_too_large"),
    ],
)
def test_bad_bodies(anonymous: APIClient, body: bytes, kind: str, status: int, code: str) -> None:
    answer = anonymous.generic("POST", "/api/v1/auth/login", body, content_type=kind)
    check(answer, status, code)


def test_a_compressed_body_is_refused(anonymous: APIClient) -> None:
    answer = anonymous.generic(
        "POST",
        "/api/v1/auth/login",
        b"\x1f\x8b",
        content_type="application/json",
        headers={"Content-Encoding": "gzip"},
    )
    check(answer, 415, "unsupported_media_type")


def test_faults_have_pointers(with_key: Any) -> None:
    client = with_key(ApiKeyFactory(scopes=["manage:projects"]))
    answer = client.post("/api/v1/projects", {"slug": "a b", "nme": "x"}, format="json")
    body = check(answer, 422, "invalid_request")
    assert {error["pointer"] for error in body["errors"]} == {"/nme"}
    answer = client.post("/api/v1/projects", {"slug": "a b", "name": ""}, format="json")
    body = check(answer, 422, "invalid_request")
    assert {error["pointer"] for error in body["errors"]} == {"/slug", "/name"}


def test_a_duplicate_is_a_problem(with_key: Any) -> None:
    project = ProjectFactory(slug="taken")
    client = with_key(ApiKeyFactory(project=project, scopes=["manage:projects"]))
    check(client.post("/api/v1/projects", {"slug": "taken"}, format="json"), 422, "invalid_request")


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("where", ["/api/crash", "/api/plain-crash"])
def test_a_crash_tells_nothing(
    anonymous: APIClient, settings: Any, where: str, debug: bool
) -> None:
    settings.DEBUG = debug
    check(anonymous.get(where), 500, "internal_error")


@pytest.mark.urls(__name__)
def test_a_database_that_is_away(anonymous: APIClient) -> None:
    answer = anonymous.get("/api/away")
    check(answer, 503, "store_unavailable")
    assert int(answer["Retry-After"]) > 0


def test_the_admin_keeps_its_pages() -> None:
    client = Client(raise_request_exception=False)
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    missing = client.get("/admin/nothing/here/")
    assert missing.status_code == 404
    assert missing["Content-Type"].startswith("text/html")
    assert is_uuid(missing["X-Request-Id"])


def test_each_call_is_logged_once_and_without_secrets(with_key: Any) -> None:
    key = ApiKeyFactory()
    shown = str(uuid.uuid4())
    with structlog.testing.capture_logs() as lines:
        answer = with_key(key).get(
            "/api/v1/auth/status?token=a-secret-in-the-query",
            headers={"X-Client-Request-Id": shown},
        )
    calls = [line for line in lines if line["event"] == "call"]
    assert len(calls) == 1
    call = calls[0]
    assert (call["method"], call["status"]) == ("GET", 200)
    assert call["route"] == "api/v1/auth/status"
    assert call["tenant"] == key.tenant.slug
    assert call["client_request_id"] == shown
    assert answer["X-Request-Id"] != shown
    assert "a-secret" not in json.dumps(lines, default=str)
    assert key.text not in json.dumps(lines, default=str)


def test_an_invalid_client_request_id_is_not_logged(anonymous: APIClient) -> None:
    with structlog.testing.capture_logs() as lines:
        anonymous.get("/api/v1/health", headers={"X-Client-Request-Id": 'x" injected'})
    assert lines[-1]["client_request_id"] == ""
