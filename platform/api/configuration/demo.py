"""The demo of `make run`: a tenant, keys, people and routes.

Done again, it changes nothing. Only hashes of its secrets are in the database; the secrets
themselves are in `var/demo.env`, and are made anew when that file is gone.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction

from accounts.models import Membership, Role, User
from accounts.services import add_member, set_password
from api.configuration.applying import apply
from api.configuration.document import read
from providers.models import Route
from tenants import keys
from tenants.keys import Mode
from tenants.models import ApiKey, Plan, Project, Tenant
from tenants.services import create_key, create_project, revoke_key

SLUG = "demo"
ADMIN = "admin@patchbay.example"
OWNER = "owner@demo.example"
PEOPLE = 2
Secrets = dict[str, str]


class Password(NamedTuple):
    text: str
    hashed: str


def hashed(text: str) -> Password:
    """Takes a quarter of a second, on a core of its own if a thread does it."""
    return Password(text, make_password(text))


def new_password() -> Password:
    return hashed(secrets.token_urlsafe(18))


@transaction.atomic
def make_demo(
    known: Mapping[str, str], new_password: Callable[[], Password] = new_password
) -> Secrets:
    """Make what is missing. `known` are the secrets of an earlier time; all that hold now come
    back, as the lines of `var/demo.env`."""
    _make_rows()
    tenant = Tenant.objects.get(slug=SLUG)
    admin, owner = known.get("ADMIN_PASSWORD", ""), known.get("TENANT_PASSWORD", "")
    admin = _person(ADMIN, admin, new_password, is_staff=True, is_superuser=True)
    owner = _person(OWNER, owner, new_password)
    if not Membership.objects.filter(tenant=tenant, user__email=OWNER).exists():
        add_member(tenant=tenant, email=OWNER, role=Role.OWNER)
    return {
        "PATCHBAY_TEST_KEY": _key(tenant, Mode.TEST, known.get("PATCHBAY_TEST_KEY", "")),
        "PATCHBAY_LIVE_KEY": _key(tenant, Mode.LIVE, known.get("PATCHBAY_LIVE_KEY", "")),
        "ADMIN_USER": ADMIN,
        "ADMIN_PASSWORD": admin,
        "TENANT_USER": OWNER,
        "TENANT_PASSWORD": owner,
    }


def read_secrets(path: Path) -> Secrets:
    """What `write_secrets` wrote; nothing when the file is gone."""
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value for name, _, value in pairs if value}


def write_secrets(path: Path, values: Mapping[str, str]) -> None:
    """For the owner's eyes only, and whole at every instant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    draft.replace(path)


def _make_rows() -> None:
    """demo.yaml, without what exists already: that may have been changed on purpose."""
    document = yaml.load(Path(__file__).with_name("demo.yaml").read_text("utf-8"), yaml.CSafeLoader)
    exists: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "plans": lambda item: Plan.objects.filter(slug=item["slug"]).exists(),
        "tenants": lambda item: Tenant.objects.filter(slug=item["slug"]).exists(),
        "routes": lambda item: Route.objects.filter(
            operation=item["operation"], alias=item["alias"]
        ).exists(),
    }
    missing = {
        section: [item for item in items if not exists[section](item)]
        for section, items in document.items()
    }
    apply(read(yaml.safe_dump(missing), {}))


def _person(email: str, known: str, new_password: Callable[[], Password], **rights: bool) -> str:
    """The user's password: the known one, or a new one where there is none."""
    user = User.objects.filter(email=email).first()
    if user and known:
        return known
    password = hashed(known) if known else new_password()
    if user is None:
        User.objects.create(email=email, password=password.hashed, **rights)
    else:
        set_password(user=user, password=password.text)
    return password.text


def _key(tenant: Tenant, mode: Mode, text: str) -> str:
    """The known key if it still works; else a new one, and the old ones of the demo end."""
    name = f"demo {mode}"
    if _works(tenant, text):
        return text
    for key in ApiKey.objects.of(tenant).filter(name=name, revoked_at=None):
        revoke_key(key=key)
    project = Project.objects.of(tenant).first() or create_project(tenant=tenant, slug="default")
    return create_key(project=project, name=name, mode=mode)[1]


def _works(tenant: Tenant, text: str) -> bool:
    parsed = keys.parse(text)
    if parsed is None:
        return False
    row = ApiKey.objects.of(tenant).filter(public_id=parsed.public_id, revoked_at=None).first()
    return row is not None and row.digest == keys.digest(text, settings.KEY_PEPPER)
