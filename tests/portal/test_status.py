"""The status of operations, as the next call of this tenant would find them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from api import vitals
from providers.breaker import FORCED, State
from providers.models import Credential, Operation, Provider
from providers.operations import registry
from providers.services import override_breaker
from tenants.models import Tenant
from tests.factories import CredentialFactory, ModelFactory, ProviderFactory, TenantFactory

pytestmark = pytest.mark.django_db
RERANK = "rerank"


@pytest.fixture
def provider() -> Provider:
    provider: Provider = ProviderFactory(slug="lab")
    ModelFactory(provider=provider, operation=RERANK)
    return provider


@pytest.fixture
def breakers(monkeypatch: pytest.MonkeyPatch) -> dict[str, State]:
    states: dict[str, State] = {}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: states)
    return states


def told(browser: Client, operation: str = RERANK) -> Any:
    rows = browser.get("/app/acme/status/").context["rows"]
    assert {row["name"] for row in rows} == registry().keys()
    (state,) = [row["state"] for row in rows if row["name"] == operation]
    return state


def test_without_a_credential_there_is_the_sandbox(provider: Provider, owner: Client) -> None:
    assert told(owner) == "sandbox only"
    CredentialFactory(provider=provider, tenant=TenantFactory())  # another's helps nobody else
    assert told(owner) == "sandbox only"


def test_a_tenants_own_credential_counts(provider: Provider, tenant: Tenant, owner: Client) -> None:
    CredentialFactory(provider=provider, tenant=tenant)
    assert told(owner) == "ok"


def test_one_that_the_provider_refuses_does_not(provider: Provider, owner: Client) -> None:
    CredentialFactory(provider=provider)
    Credential.objects.update(drained_at=timezone.now())
    assert told(owner) == "down"
    CredentialFactory(provider=provider, name="second")
    assert told(owner) == "ok"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        *((State.OPEN, "down"), (State.FORCED_OPEN, "down"), (State.HALF_OPEN, "down")),
        *((State.DISABLED, "ok"), (State.CLOSED, "ok")),  # both let all calls through
    ],
)
def test_who_rests_cannot_answer(
    state: State, shown: str, provider: Provider, owner: Client, breakers: dict[str, State]
) -> None:
    CredentialFactory(provider=provider)
    breakers["lab"] = state
    if state in FORCED:
        override_breaker(name="lab", state=state, reason="a test", by="ann")
    assert told(owner) == shown
    other = ProviderFactory(slug="other")
    CredentialFactory(provider=other)
    ModelFactory(provider=other, operation=RERANK)
    assert told(owner) == ("degraded" if shown == "down" else "ok")


def test_however_many_rest(provider: Provider, owner: Client, breakers: dict[str, State]) -> None:
    CredentialFactory(provider=provider)
    breakers |= {f"a-model/{n}": State.OPEN for n in range(200)} | {"lab": State.OPEN}
    assert told(owner) == "down"


def test_what_is_switched_off_is_told_so(provider: Provider, owner: Client) -> None:
    CredentialFactory(provider=provider)
    Operation.objects.update_or_create(name=RERANK, defaults={"enabled": False})
    assert told(owner) == "switched off"
