"""The sandbox plays what staff have put in force, whenever it was started, and nothing longer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from django.utils import timezone

from providers import definitions
from providers.definition_models import Definition
from providers.sandbox.server import SandboxServer
from providers.sandbox_sync import sync_sandbox
from tests.providers.definitions import rates
from tests.services.process import free_port

pytestmark = pytest.mark.django_db
State = Definition.State


@pytest.fixture
def sandbox(settings: Any) -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        settings.ENV = settings.ENV.model_copy(update={"SANDBOX_URL": server.url})
        yield server


def put_in_force(slug: str, rate: float = 1.0823) -> Definition:
    """A version of it, whose example tells that rate."""
    document, examples = rates(slug)
    examples[0]["response"]["body"]["rates"] = {"{{quote}}": rate}
    Definition.objects.filter(slug=slug, state=State.ACTIVE).update(state=State.RETIRED)
    row = definitions.create(slug=slug, document=document, examples=examples, by="ann")
    row.state, row.activated_at = State.ACTIVE, timezone.now()
    row.save()
    return row


def asked(sandbox: SandboxServer, slug: str) -> httpx2.Response:
    return httpx2.get(f"{sandbox.url}/{slug}/v1/latest?base=EUR&symbols=USD")


def rate(sandbox: SandboxServer, slug: str) -> float:
    told: float = asked(sandbox, slug).raise_for_status().json()["rates"]["USD"]
    return told


def test_what_staff_wrote_answers_by_its_own_examples(sandbox: SandboxServer) -> None:
    assert asked(sandbox, "my-rates").status_code == 404
    put_in_force("my-rates", 7.5)
    assert sync_sandbox() == 1
    assert rate(sandbox, "my-rates") == 7.5
    assert sync_sandbox() == 0


def test_it_goes_before_what_ships(sandbox: SandboxServer) -> None:
    shipped = rate(sandbox, "frankfurter")
    put_in_force("frankfurter", 7.5)
    sync_sandbox()
    assert rate(sandbox, "frankfurter") == 7.5
    Definition.objects.all().delete()
    assert sync_sandbox() == 1
    assert rate(sandbox, "frankfurter") == shipped


def test_another_version_takes_its_place(sandbox: SandboxServer) -> None:
    put_in_force("my-rates", 7.5)
    sync_sandbox()
    put_in_force("my-rates", 8.5)
    assert sync_sandbox() == 1
    assert rate(sandbox, "my-rates") == 8.5


def test_a_sandbox_that_starts_anew_is_told_again(sandbox: SandboxServer, settings: Any) -> None:
    put_in_force("my-rates")
    sync_sandbox()
    with SandboxServer() as another:
        settings.ENV = settings.ENV.model_copy(update={"SANDBOX_URL": another.url})
        assert sync_sandbox() == 1
        assert asked(another, "my-rates").status_code == 200


def test_drafts_and_what_ships_are_not_told(sandbox: SandboxServer) -> None:
    document, examples = rates("my-rates")
    definitions.create(slug="my-rates", document=document, examples=examples, by="ann")
    put_in_force("their-rates")
    Definition.objects.filter(slug="their-rates").update(source=Definition.Source.BUILTIN)
    assert sync_sandbox() == 0


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:{port}"])
def test_nothing_is_told_where_no_sandbox_is(settings: Any, url: str) -> None:
    put_in_force("my-rates")
    url = url.format(port=free_port())
    settings.ENV = settings.ENV.model_copy(update={"SANDBOX_URL": url})
    assert sync_sandbox() == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"version": "1"}', b'{"version": "1", "document": 7, "examples": []}',
     b'{"version": "1", "document": "slug: x", "examples": []}',
     b'{"version": "1", "document": "' + b"a: {" * 5000 + b'", "examples": []}'],
)  # fmt: skip
def test_what_is_no_definition_is_refused(sandbox: SandboxServer, body: bytes) -> None:
    answer = httpx2.put(f"{sandbox.url}/_sandbox/definitions/my-rates", content=body)
    assert answer.status_code == 400 and answer.json()["error"]
    assert httpx2.get(f"{sandbox.url}/_sandbox/definitions").json() == {}
