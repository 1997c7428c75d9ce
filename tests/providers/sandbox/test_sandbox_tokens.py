"""The sandbox's token endpoints: who gets a token, and what faults reach them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from providers.sandbox.server import SandboxServer

CLIENT = httpx2.Client(verify=False)  # to read the CAs takes ten times as long as a call
FORM = {"grant_type": "client_credentials"}
SEARCH = "/spotify/v1/search?q=x&type=track&limit=10"


def asked(sandbox: SandboxServer, client: str = "me", secret: str = "s", **form: str) -> Any:
    where = f"{sandbox.url}/spotify/api/token"
    return CLIENT.post(where, data={**FORM, **form}, auth=(client, secret))


def search(sandbox: SandboxServer, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return CLIENT.get(sandbox.url + SEARCH, headers=headers).status_code


def test_a_token_opens_the_api_and_nothing_else_does(sandbox: SandboxServer) -> None:
    token = asked(sandbox).json()
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
    assert search(sandbox, token["access_token"]) == 200
    for other in ("sk-test", "sandbox-token-", "sandbox-token-%%%"):
        assert search(sandbox, other) == 401


def test_a_client_may_name_itself_in_the_body(sandbox: SandboxServer) -> None:
    form = {**FORM, "client_id": "me", "client_secret": "s"}
    assert CLIENT.post(f"{sandbox.url}/spotify/api/token", data=form).status_code == 200


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        ({"client": "sk-bad-1"}, 401, "invalid_client"),
        ({"secret": "sk-bad-1"}, 401, "invalid_client"),
        ({"client": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_refusals_are_the_standards(
    sandbox: SandboxServer, said: dict[str, str], status: int, error: str
) -> None:
    answer = asked(sandbox, **said)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_a_providers_fault_is_kept_for_its_answers(sandbox: SandboxServer) -> None:
    sandbox.control("PUT", "faults/spotify", {"status": 503, "times": 1})
    token = asked(sandbox).json()["access_token"]
    assert search(sandbox, token) == 503
    assert search(sandbox, token) == 200


def test_a_fault_of_the_tokens_is_asked_for_by_name(sandbox: SandboxServer) -> None:
    token = asked(sandbox).json()["access_token"]
    fault = {"status": 429, "retry_after": 7, "model": "token", "times": 1}
    sandbox.control("PUT", "faults/spotify", fault)
    assert search(sandbox, token) == 200
    answer = asked(sandbox)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert asked(sandbox).status_code == 200


def test_a_token_is_nothing_that_anybody_is_billed_for(
    sandbox: SandboxServer, journal: Callable[[str], list[dict[str, Any]]]
) -> None:
    token = asked(sandbox).json()["access_token"]
    headers = {"authorization": f"Bearer {token}", "x-client-request-id": "with-a-token"}
    CLIENT.get(sandbox.url + SEARCH, headers=headers)
    assert [line["operation"] for line in journal("with-a-token")] == ["music.search"]
    assert "sandbox-token-" not in str(journal("with-a-token"))
