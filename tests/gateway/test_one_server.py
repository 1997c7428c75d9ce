"""Both doors behave as one server: problems, request ids and log lines, whoever answers."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx2
import pytest

from tests.patience import eventually
from tests.services.system import System

CHAT = "/api/v1/chat/completions"
LOGIN = "/api/v1/auth/login"
ASK = {"model": "lab-chat", "messages": [{"role": "user", "content": "hello there, gateway"}]}


def check(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"].endswith(f"/docs/errors#{code}")
    assert body["timestamp"].endswith("Z")
    return body


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1/nothing", "/api/v2/models", "/internal/v1/x"]
)
def test_nothing_there(system: System, path: str) -> None:
    check(httpx2.get(system.url + path), 404, "not_found")


@pytest.mark.parametrize("path", [LOGIN, "/api/auth/login", "/api/v1/finance/quote"])
def test_the_wrong_method(system: System, path: str) -> None:
    right = "POST" if "login" in path else "GET"
    answer = httpx2.request("DELETE", system.url + path)
    check(answer, 405, "method_not_allowed")
    assert right in answer.headers["allow"]


def test_a_post_without_a_csrf_token(system: System) -> None:
    check(httpx2.post(f"{system.url}/api/metrics"), 403, "forbidden")


@pytest.mark.parametrize("body", [b'{"email": NaN}', b"\xff\xfe"])
def test_broken_json_at_the_door_for_people(system: System, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    check(httpx2.post(system.url + LOGIN, content=body, headers=headers), 400, "invalid_request")


PLACES = [
    ("GET", "/api/v1/models"),
    ("GET", "/api/v1/finance/quote?symbol=AAPL"),
    ("POST", CHAT),
    ("GET", "/api/v1/health"),
    ("GET", "/api/v1/catalogue"),
    ("GET", "/api/v1/schema"),
    ("GET", "/api/metrics"),
    ("GET", "/admin/login/"),
    ("GET", "/docs"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize("credential", ["X-API-Key", "X-Nothing"])
def test_every_answer_has_a_request_id_of_its_own(system: System, credential: str) -> None:
    ids = []
    headers = {credential: system.keys["acme/test"]}
    for method, path in PLACES:
        body = ASK if method == "POST" else None
        answer = httpx2.request(method, system.url + path, json=body, headers=headers, timeout=20)
        assert "x-request-id" in answer.headers, path
        ids.append(answer.headers["x-request-id"])
    assert all(uuid.UUID(text).version == 7 for text in ids)
    assert len(set(ids)) == len(PLACES)


def logged(system: System, request_id: str) -> dict[str, Any]:
    """The access log's line of a call."""
    log = system.folder / "gateway.log"

    def line() -> str | None:
        lines = (text for text in log.read_text().splitlines() if request_id in text)
        return next((text for text in lines if '"call"' in text), None)

    event: dict[str, Any] = json.loads(eventually(line) or "")
    return event


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/health"])
def test_the_clients_own_request_id_is_logged_beside_ours(system: System, path: str) -> None:
    own = str(uuid.uuid4())
    headers = {"X-API-Key": system.keys["acme/test"], "X-Client-Request-Id": own.upper()}
    answer = httpx2.get(system.url + path, headers=headers)
    assert answer.headers["x-request-id"] != own
    assert logged(system, answer.headers["x-request-id"])["client_request_id"] == own


@pytest.mark.parametrize("path", ["/api/v1/models", "/api/v1/health"])
def test_what_is_no_request_id_is_not_logged(system: System, path: str) -> None:
    hostile = 'x", "level": "error'
    headers = {"X-API-Key": system.keys["acme/test"], "X-Client-Request-Id": hostile}
    answer = httpx2.get(system.url + path, headers=headers)
    event = logged(system, answer.headers["x-request-id"])
    assert not event.get("client_request_id")
    assert event["level"] == "info"
