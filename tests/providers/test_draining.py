"""A refused credential in the database: drained once, told to all workers, taken back by staff."""

from __future__ import annotations

import pytest
from django.utils import timezone

from lib.models import Revision, Topic
from providers.models import Credential
from providers.services import drain_credential, use_credential_again
from providers.snapshot import load
from tests.factories import CredentialFactory

pytestmark = pytest.mark.django_db


def drain(row: Credential, secret: str = "sk-one", reason: str = "401: no") -> Credential:
    drain_credential(public_id=row.public_id, secret=secret, reason=reason)
    row.refresh_from_db()
    return row


def number() -> int:
    return Revision.numbers().get(Topic.ROUTING, 0)


def drained_in_snapshot(row: Credential) -> bool:
    (found,) = load().providers[row.provider.slug].credentials_of(None)
    return found.drained


def test_it_is_drained_with_its_reason_and_every_worker_is_told() -> None:
    row = CredentialFactory(secret="sk-one")
    before = number()
    drain(row)
    assert (timezone.now() - row.drained_at).total_seconds() < 60
    assert row.drained_reason == "401: no"
    assert number() > before
    assert drained_in_snapshot(row)


def test_a_second_worker_changes_nothing() -> None:
    row = drain(CredentialFactory(secret="sk-one"))
    since, told = row.drained_at, number()
    drain(row, reason="403: later")
    assert (row.drained_at, row.drained_reason, number()) == (since, "401: no", told)


def test_what_has_another_secret_by_now_is_left_alone() -> None:
    row = CredentialFactory(secret="sk-two")
    assert drain(row, secret="sk-one").drained_at is None


def test_what_is_gone_or_does_not_open_is_left_alone() -> None:
    row = CredentialFactory(secret="sk-one")
    drain_credential(public_id="crd_gone", secret="sk-one", reason="401")
    Credential.objects.filter(pk=row.pk).update(sealed="00000000:junk")
    assert drain(row).drained_at is None


def test_a_long_reason_is_cut() -> None:
    assert len(drain(CredentialFactory(secret="sk-one"), reason="x" * 600).drained_reason) == 200


def test_staff_have_it_used_again() -> None:
    row = drain(CredentialFactory(secret="sk-one"))
    before = number()
    use_credential_again(credential=row)
    row.refresh_from_db()
    assert (row.drained_at, row.drained_reason) == (None, "")
    assert number() > before
    assert not drained_in_snapshot(row)


def test_a_new_secret_is_used() -> None:
    row = drain(CredentialFactory(secret="sk-one"))
    row.set_secret("sk-new")
    row.save()
    assert not drained_in_snapshot(row)
