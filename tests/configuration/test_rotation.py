"""`manage.py rotate_secrets`: every secret sealed under the newest key, none lost."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from providers.models import Credential, Provider

pytestmark = pytest.mark.django_db
OLD, NEW = "old-sealing-key-0123456789abcdefgh", "new-sealing-key-0123456789abcdefgh"


@pytest.fixture
def credentials(settings: Any) -> list[Credential]:
    settings.SEALING_KEYS = [OLD]
    provider = Provider.objects.create(
        slug="lab", name="L", adapter="openai", base_url="https://x.example"
    )
    rows = [Credential(provider=provider, name=f"c{number}") for number in range(3)]
    for row in rows:
        row.set_secret(f"secret of {row.name}")
        row.save()
    return rows


def rotate() -> str:
    out = io.StringIO()
    call_command("rotate_secrets", stdout=out)
    return out.getvalue()


def test_the_old_key_can_go_afterwards(credentials: list[Credential], settings: Any) -> None:
    settings.SEALING_KEYS = [NEW, OLD]
    assert rotate() == "3 sealed again, 0 were current\n"
    assert rotate() == "0 sealed again, 3 were current\n"
    settings.SEALING_KEYS = [NEW]
    for row in Credential.objects.all():
        assert row.secret() == f"secret of {row.name}"


def test_a_secret_that_no_key_opens_is_named_and_left_alone(
    credentials: list[Credential], settings: Any
) -> None:
    settings.SEALING_KEYS = [NEW, OLD]
    broken, other = credentials[0], credentials[1]
    Credential.objects.filter(pk=broken.pk).update(sealed=other.sealed)  # a row copied onto another
    with pytest.raises(CommandError, match="lab/c0"):
        rotate()
    broken.refresh_from_db()
    assert broken.sealed == other.sealed
    assert Credential.objects.get(pk=credentials[2].pk).secret() == "secret of c2"
