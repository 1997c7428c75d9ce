"""The demo: made once, kept, and its secrets made anew only where they were lost."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from accounts.models import Membership, User
from api.configuration.demo import make_demo, read_secrets
from api.configuration.live import enable_live
from lib.models import Revision
from providers.catalogue import CatalogueFile
from providers.models import Credential, Provider, Route
from tenants import keys
from tenants.limits import DEFAULT_RATE_LIMITS
from tenants.models import ApiKey, Plan, Tenant

pytestmark = pytest.mark.django_db
NAMES = [
    "PATCHBAY_URL",
    "PATCHBAY_TEST_KEY",
    "PATCHBAY_LIVE_KEY",
    "ADMIN_USER",
    "ADMIN_PASSWORD",
    "TENANT_USER",
    "TENANT_PASSWORD",
]


def test_the_file_has_what_a_newcomer_needs(shipped: Any, tmp_path: Path) -> None:
    path = tmp_path / "var" / "demo.env"
    call_command("make_demo", file=path, url="http://127.0.0.1:8123", verbosity=0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = read_secrets(path)
    assert list(values) == NAMES
    assert values["PATCHBAY_URL"] == "http://127.0.0.1:8123"
    for name, mode in (("PATCHBAY_TEST_KEY", "test"), ("PATCHBAY_LIVE_KEY", "live")):
        parsed = keys.parse(values[name])
        assert parsed
        row = ApiKey.objects.get(public_id=parsed.public_id)
        assert (row.mode, row.scopes, row.tenant.slug) == (mode, ["*"], "demo")
    admin = User.objects.get(email=values["ADMIN_USER"])
    assert admin.is_superuser and admin.is_staff and admin.check_password(values["ADMIN_PASSWORD"])
    owner = User.objects.get(email=values["TENANT_USER"])
    assert not owner.is_staff and owner.check_password(values["TENANT_PASSWORD"])
    assert Membership.objects.get(user=owner).role == "owner"


def test_the_demo_has_the_promised_routes_and_limits(shipped: Any) -> None:
    make_demo({})
    assert Plan.objects.get(slug="demo").rate_limits == DEFAULT_RATE_LIMITS
    for alias in ("fast", "smart"):
        targets = Route.objects.get(operation="chat.completions", alias=alias).targets.all()
        assert len(targets) == 3
        assert len({target.provider.adapter for target in targets}) == 3
    embeddings = Route.objects.get(operation="embeddings", alias="text-embedding-3-small")
    assert embeddings.targets.exists()


def test_a_second_time_changes_nothing(shipped: Any) -> None:
    first = make_demo({})
    revision = Revision.numbers()
    assert make_demo(first) == first
    assert Revision.numbers() == revision


def test_lost_secrets_are_made_anew_and_the_old_keys_end(shipped: Any) -> None:
    first, second = make_demo({}), make_demo({})
    assert all(first[name] != second[name] for name in first if not name.endswith("_USER"))
    assert ApiKey.objects.filter(revoked_at=None).count() == 2
    assert User.objects.get(email=second["ADMIN_USER"]).check_password(second["ADMIN_PASSWORD"])


def test_a_lost_database_or_pepper_gives_new_keys_and_keeps_the_passwords(
    shipped: Any, settings: Any
) -> None:
    first = make_demo({})
    settings.KEY_PEPPER = b"another pepper, since .env was lost"
    second = make_demo(first)
    assert second["PATCHBAY_TEST_KEY"] != first["PATCHBAY_TEST_KEY"]
    Tenant.objects.all().delete()
    User.objects.all().delete()
    third = make_demo(second)
    assert third["ADMIN_PASSWORD"] == first["ADMIN_PASSWORD"]
    assert User.objects.get(email=third["ADMIN_USER"]).check_password(third["ADMIN_PASSWORD"])


def test_what_staff_changed_in_the_demo_stays(shipped: Any) -> None:
    known = make_demo({})
    route = Route.objects.get(alias="fast")
    route.targets.all().delete()
    Plan.objects.filter(slug="demo").update(rate_limits=[])
    make_demo(known)
    assert not route.targets.exists()
    assert Plan.objects.get(slug="demo").rate_limits == []


def test_providers_with_a_key_in_the_environment_are_enabled(
    shipped: Sequence[CatalogueFile],
) -> None:
    environment = {"OPENAI_API_KEY": "sk-real-1", "OLLAMA_BASE_URL": "http://127.0.0.1:9/v1/"}
    live = enable_live(shipped, lambda name: environment.get(name, ""))
    assert {provider.slug for provider in live} == {"openai", "ollama"}
    assert all(provider.model.startswith(f"{provider.slug}/") for provider in live)
    assert Credential.objects.get().secret() == "sk-real-1"
    ollama = Provider.objects.get(slug="ollama")
    assert (ollama.enabled, ollama.base_url) == (True, "http://127.0.0.1:9/v1")
    assert ollama.source == "builtin"
    revision = Revision.numbers()
    enable_live(shipped, lambda name: environment.get(name, ""))
    assert Revision.numbers() == revision
    environment["OPENAI_API_KEY"] = "sk-real-2"
    enable_live(shipped, lambda name: environment.get(name, ""))
    assert Credential.objects.get().secret() == "sk-real-2"
    assert enable_live(shipped, lambda name: "") == []
    assert not Credential.objects.get().enabled


def test_a_secret_of_several_parts_needs_all_of_them(shipped: Sequence[CatalogueFile]) -> None:
    environment = {"EDAMAM_APP_ID": "id-1"}
    assert enable_live(shipped, lambda name: environment.get(name, "")) == []
    environment["EDAMAM_APP_KEY"] = "key-1"
    (live,) = enable_live(shipped, lambda name: environment.get(name, ""))
    assert (live.slug, live.variable) == ("edamam", "EDAMAM_APP_ID")
    assert Credential.objects.get().secret() == '{"app_id":"id-1","app_key":"key-1"}'
