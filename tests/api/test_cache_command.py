"""`manage.py cache`: in a process without a gateway, through the store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from api import vitals
from providers.warm_models import WarmRequest
from tests.api.caching import Beside, beside
from tests.cache.serving import SECRET
from tests.factories import TenantFactory
from tests.patience import eventually
from tests.services.valkey import Valkey

pytestmark = pytest.mark.django_db


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, valkey: Valkey, settings: Any) -> Iterator[Beside]:
    """One in another process: this one only shares its store and its secret."""
    shared = {"REDIS_URL": valkey.url, "SECRET_KEY": SECRET.decode()}
    settings.ENV = settings.ENV.model_copy(update=shared)
    with beside(monkeypatch, 1, valkey.url) as made:
        monkeypatch.setattr(vitals.WORKER, "cache", lambda: None)
        yield made


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command("cache", *arguments, stdout=out)
    return out.getvalue()


def test_gateways_forget_within_a_second(gateway: Beside) -> None:
    tenant = TenantFactory(slug="acme")
    gateway.keep(tenant.pk)
    gateway.keep(tenant.pk, "MSFT")
    told = json.loads(said("invalidate", "--tag", "symbol:AAPL", "--json"))
    assert told == {"what": "tag", "which": "symbol:AAPL", "everywhere": True}
    eventually(lambda: not gateway.has(tenant.pk), seconds=1)
    assert gateway.has(tenant.pk, "MSFT")
    assert "forgotten: all; " in said("clear", "--reason", "moved")
    eventually(lambda: not gateway.has(tenant.pk, "MSFT"), seconds=1)


def test_status(gateway: Beside) -> None:
    gateway.keep()
    eventually(lambda: json.loads(said("status", "--json"))["entries"] == 1)
    lines = dict(line.split(maxsplit=1) for line in said("status").splitlines())
    assert (lines["usable"], lines["entries"], lines["limit_bytes"]) == ("true", "1", "268435456")


def test_what_is_kept_warm_and_asking_it_now() -> None:
    euro = {"operation": "finance.fx_rate", "params": {"base": "EUR", "quote": "SEK"}}
    WarmRequest.objects.create(name="euro", **euro)
    assert "never ran" in said("warm")
    assert "is asked within" in said("warm", "euro")
    (row,) = json.loads(said("warm", "--json"))
    assert (row["name"], row["params"], row["outcome"]) == ("euro", euro["params"], None)
    assert row["asked_at"]
    with pytest.raises(CommandError, match="No warm request has this name"):
        said("warm", "nobody")


def test_a_store_that_is_away(gateway: Beside, valkey: Valkey) -> None:
    valkey.kill()
    for arguments in (["clear"], ["invalidate", "--tag", "a:b"]):
        with pytest.raises(CommandError, match="no gateway could be told"):
            said(*arguments)
    assert json.loads(said("status", "--json"))["usable"] is False


def test_embedded_it_says_whom_to_ask() -> None:
    for arguments in (["status"], ["clear"], ["invalidate", "--tag", "a:b"]):
        with pytest.raises(CommandError, match="POST /internal/v1/cache/invalidate"):
            said(*arguments)


def test_what_is_refused() -> None:
    for arguments in (
        [],
        ["invalidate"],
        ["invalidate", "--tag", "a:b", "--operation", "finance.quote"],
        ["invalidate", "--tag", "a"],
        ["invalidate", "--tenant", "nobody"],
        ["invalidate", "--key", "x"],
        ["invalidate", "--operation", ""],
    ):
        with pytest.raises(CommandError):
            said(*arguments)
