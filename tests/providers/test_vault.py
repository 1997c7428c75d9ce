"""Provider secrets in the database: sealed for one row, opened with the environment's keys."""

from __future__ import annotations

from typing import Any

import pytest

from lib.sealing import SealBroken
from providers.models import Credential
from providers.vault import open_secret, ring, seal_secret
from tests.factories import CredentialFactory, TenantFactory

pytestmark = pytest.mark.django_db
OLD, NEW = "old-" + "o" * 40, "new-" + "n" * 40


def test_a_credential_keeps_its_secret_sealed() -> None:
    row = CredentialFactory(secret="sk-canary-0123456789")
    assert "canary" not in row.sealed
    again = Credential.objects.get(pk=row.pk)
    assert again.secret() == "sk-canary-0123456789" and again.last_four == "6789"


def test_a_short_secret_shows_none_of_itself() -> None:
    assert CredentialFactory(secret="sk-short").last_four == ""


def test_a_seal_copied_to_another_row_does_not_open() -> None:
    mine, theirs = CredentialFactory(), CredentialFactory(tenant=TenantFactory())
    Credential.objects.filter(pk=theirs.pk).update(sealed=mine.sealed)
    with pytest.raises(SealBroken):
        Credential.objects.get(pk=theirs.pk).secret()


def test_a_house_credential_given_to_a_tenant_does_not_open() -> None:
    row = CredentialFactory()
    Credential.objects.filter(pk=row.pk).update(tenant=TenantFactory())
    with pytest.raises(SealBroken):
        Credential.objects.get(pk=row.pk).secret()


def test_keys_rotate(settings: Any) -> None:
    settings.SEALING_KEYS = [OLD]
    sealed = seal_secret("sk-1", "a")
    settings.SEALING_KEYS = [NEW, OLD]
    assert open_secret(sealed, "a") == "sk-1" and not ring().is_current(sealed)
    settings.SEALING_KEYS = [NEW]
    with pytest.raises(SealBroken):
        open_secret(sealed, "a")
