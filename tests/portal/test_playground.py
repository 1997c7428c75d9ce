"""What is typed in the playground, as code: for everybody, with and without JavaScript."""

from __future__ import annotations

import re
import shlex
from html import unescape
from typing import Any

import pytest
from django.test import Client

from accounts.models import Role
from tenants.models import ApiKey, Tenant

pytestmark = pytest.mark.django_db
WHERE = "/app/acme/playground/code/"


def curl_of(page: Any) -> list[str]:
    (code,) = re.findall(r'data-sample="curl">(.*?)</code>', page.content.decode(), re.S)
    return shlex.split(unescape(code).replace("\\\n", " "))


def test_a_query_is_shown_as_typed(tenant: Tenant, as_role: Any) -> None:
    """Whoever may see the page may; no key is made, and what is empty is left out."""
    form = {"symbol": "SAP & Co", "explain": "true", "provider": "", "unknown": "x"}
    page = as_role(Role.VIEWER).post(f"{WHERE}?operation=finance.quote", form)
    assert curl_of(page)[1].endswith("/api/v1/finance/quote?symbol=SAP+%26+Co&explain=true")
    shown = page.content.decode()
    assert 'value="SAP &amp; Co"' in shown and "<option selected>true</option>" in shown
    assert not ApiKey.objects.exists()


def test_a_body_is_shown_as_typed(tenant: Tenant, owner: Client) -> None:
    body = '{"model": "smart",\n "messages": [], "note": "it\'s </script>"}'
    page = owner.post(f"{WHERE}?operation=chat.completions", {"body": body})
    assert '"note": "it\'s </script>"' in curl_of(page)[-1]
    assert "it&#x27;s &lt;/script&gt;" in page.content.decode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"model": }', "line 1, column 11"),
        ("", "no JSON"),
        ("[1]", "must be a JSON object"),
        ("[" * 100_000, "too deeply"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_and_kept(
    body: str, told: str, tenant: Tenant, owner: Client
) -> None:
    page = owner.post(f"{WHERE}?operation=embeddings", {"body": body})
    shown = page.content.decode()
    assert page.status_code == 200  # as one types: a wrong body is no wrong question
    assert told in shown and 'role="alert"' in shown and body[:9] in unescape(shown)


def test_a_recording_is_named(tenant: Tenant, owner: Client) -> None:
    where = f"{WHERE}?operation=audio.transcriptions"
    for form, name in (({"file": "my song.mp3"}, "my song.mp3"), ({}, "recording.mp3")):
        assert f"file=@{name}" in curl_of(owner.post(where, {"model": "whisper-1", **form}))


def test_no_key_goes_into_an_address(tenant: Tenant, owner: Client) -> None:
    """The field has no name: no form sends it."""
    shown = owner.post("/app/acme/playground/").content.decode()
    (field,) = re.findall(r'<input id="key"[^>]*>', shown)
    assert "pb_test_" in field and " name=" not in field


def test_who_may_make_no_key_is_not_asked_to(tenant: Tenant, as_role: Any) -> None:
    for page in ("playground/", "start/"):
        shown = as_role(Role.VIEWER).get(f"/app/acme/{page}").content.decode()
        assert "Make a test key" not in shown and "ask a developer of" in shown
    assert "Make it" not in as_role(Role.VIEWER).get("/app/acme/keys/").content.decode()
