"""Every write to tenants, projects and API keys: DRF, the admin and commands all come here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from tenants import keys
from tenants.keys import Mode
from tenants.locales import DEFAULT
from tenants.models import ApiKey, Plan, Project, Tenant
from tenants.scopes import check_scopes

MAX_OVERLAP = dt.timedelta(days=30)
UNCHANGED: Final[Any] = object()  # where None means something
Row = TypeVar("Row", bound=models.Model)


@transaction.atomic
def create_tenant(
    *,
    slug: str,
    name: str,
    plan: Plan,
    time_zone: str = "UTC",
    locale: str = DEFAULT,
    rate_limits: list[dict[str, Any]] | None = None,
    allow_house_fallback: bool = False,
    keep_warm: bool = False,
) -> Tenant:
    """A new, active tenant without projects. Raises ValidationError."""
    return _saved(
        Tenant(
            slug=slug,
            name=name,
            plan=plan,
            time_zone=time_zone,
            locale=locale,
            rate_limits=rate_limits,
            allow_house_fallback=allow_house_fallback,
            keep_warm=keep_warm,
        )
    )


@transaction.atomic
def update_tenant(
    *,
    tenant: Tenant,
    name: str | None = None,
    time_zone: str | None = None,
    locale: str | None = None,
    allow_house_fallback: bool | None = None,
    keep_warm: bool | None = None,
    plan: Plan | None = None,
) -> Tenant:
    """Change what is given, leave the rest. Raises ValidationError."""
    changes = {
        "name": name,
        "time_zone": time_zone,
        "locale": locale,
        "allow_house_fallback": allow_house_fallback,
        "keep_warm": keep_warm,
        "plan": plan,
    }
    return _saved(_changed(tenant, **changes))


@transaction.atomic
def suspend_tenant(*, tenant: Tenant) -> Tenant:
    """From within a second on, all its keys and members are refused."""
    tenant.status = Tenant.Status.SUSPENDED
    tenant.save(update_fields=["status"])
    return tenant


@transaction.atomic
def resume_tenant(*, tenant: Tenant) -> Tenant:
    tenant.status = Tenant.Status.ACTIVE
    tenant.save(update_fields=["status"])
    return tenant


@transaction.atomic
def create_project(*, tenant: Tenant, slug: str, name: str = "") -> Project:
    """Raises ValidationError."""
    return _saved(Project(tenant=tenant, slug=slug, name=name or slug))


@transaction.atomic
def update_project(*, project: Project, name: str | None = None) -> Project:
    """Raises ValidationError."""
    return _saved(_changed(project, name=name))


@transaction.atomic
def delete_project(*, project: Project) -> None:
    """Raises ValidationError while a key of it may still be used."""
    Tenant.objects.select_for_update().get(pk=project.tenant_id)  # no key appears meanwhile
    if project.keys.filter(revoked_at=None).exists():
        raise ValidationError("The project has keys that are in use. Revoke them first.")
    project.delete()


@transaction.atomic
def create_key(
    *,
    project: Project,
    name: str,
    mode: Mode = Mode.LIVE,
    scopes: Sequence[str] = ("*",),
    allowed_ips: Sequence[str] = (),
    expires_at: dt.datetime | None = None,
    rate_limits: list[dict[str, Any]] | None = None,
    quotas: Sequence[dict[str, Any]] = (),
) -> tuple[ApiKey, str]:
    """A key, and its text: the only time anyone sees it. Raises ValidationError."""
    Tenant.objects.select_for_update().get(pk=project.tenant_id)
    key = ApiKey(
        tenant_id=project.tenant_id,
        project=project,
        name=name,
        scopes=check_scopes(scopes),
        allowed_ips=list(allowed_ips),
        expires_at=_future(expires_at),
        rate_limits=rate_limits,
        quotas=list(quotas),
    )
    text = _mint(key, mode)
    return _saved(key), text


@transaction.atomic
def update_key(
    *,
    key: ApiKey,
    name: str | None = None,
    scopes: Sequence[str] | None = None,
    allowed_ips: Sequence[str] | None = None,
    expires_at: dt.datetime | None = UNCHANGED,
) -> ApiKey:
    """Change what is given. `expires_at=None` takes the expiry away. Raises ValidationError."""
    key = _usable(key)
    _changed(key, name=name, allowed_ips=None if allowed_ips is None else list(allowed_ips))
    if scopes is not None:
        key.scopes = check_scopes(scopes)
    if expires_at is not UNCHANGED:
        key.expires_at = _future(expires_at)
    return _saved(key)


@transaction.atomic
def rotate_key(*, key: ApiKey, overlap: dt.timedelta) -> tuple[ApiKey, str]:
    """A new key like `key`, which itself works `overlap` longer (zero: is revoked now).

    Raises ValidationError for a key that is revoked, expired or already replaced.
    """
    key = _usable(key)
    if not dt.timedelta(0) <= overlap <= MAX_OVERLAP:
        raise ValidationError({"overlap_seconds": "From 0 to 2592000 seconds (30 days)."})
    if ApiKey.objects.filter(replaces=key).exists():
        raise ValidationError("The key was rotated already. Rotate the one that replaced it.")
    fresh = ApiKey(
        tenant_id=key.tenant_id,
        project_id=key.project_id,
        name=key.name,
        scopes=key.scopes,
        allowed_ips=key.allowed_ips,
        rate_limits=key.rate_limits,
        quotas=key.quotas,
        expires_at=key.expires_at,
        replaces=key,
    )
    text = _mint(fresh, Mode(key.mode))
    _retire(key, overlap)
    return _saved(fresh), text


@transaction.atomic
def revoke_key(*, key: ApiKey) -> ApiKey:
    """From within a second on it is refused, for ever. Again changes nothing."""
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
    return key


def _mint(key: ApiKey, mode: Mode) -> str:
    made = keys.generate(mode)
    key.mode, key.public_id, key.last_four = mode.value, made.public_id, made.text[-4:]
    key.digest = keys.digest(made.text, settings.KEY_PEPPER)
    return made.text


def _retire(key: ApiKey, overlap: dt.timedelta) -> None:
    end = timezone.now() + overlap
    if overlap:
        key.expires_at = min(end, key.expires_at or end)
    else:
        key.revoked_at = end
    key.save(update_fields=["expires_at", "revoked_at"])


def _usable(key: ApiKey) -> ApiKey:
    """The row, locked. Raises ValidationError when it is revoked or expired."""
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    if key.revoked_at is not None:
        raise ValidationError("The key is revoked. Make a new one.")
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise ValidationError("The key has expired. Make a new one.")
    return key


def _future(moment: dt.datetime | None) -> dt.datetime | None:
    if moment is not None and moment <= timezone.now():
        raise ValidationError({"expires_at": "Must lie in the future."})
    return moment


def _changed(row: Row, **fields: Any) -> Row:
    for name, value in fields.items():
        if value is not None:
            setattr(row, name, value)
    return row


def _saved(row: Row) -> Row:
    """Raises ValidationError for what the model refuses, its unique fields included."""
    row.full_clean()
    row.save()
    return row
