"""What the database knows of a key, a user, a tenant or the house, as a caller."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import replace
from typing import Any

from accounts.identity import WARM, Identity, Record
from tenants.keys import Mode
from tenants.limits import Scope, compile_rate_limits
from tenants.quotas import Quota, QuotaScope, compile_quotas, merge_quotas

_CALLERS = ("owner", "admin", "developer")  # the roles that may spend the tenant's money


def key_record(public_id: str) -> Record | None:
    from tenants.models import ApiKey

    key = (
        ApiKey.objects.select_related("tenant__plan", "project").filter(public_id=public_id).first()
    )
    if key is None:
        return None
    identity = of_key(key)
    return Record(
        identity=identity,
        digest=key.digest,
        revoked=key.revoked_at is not None and key.revoked_at <= dt.datetime.now(dt.UTC),
        expires_at=_seconds(key.expires_at),
        networks=tuple(ipaddress.ip_network(network) for network in key.allowed_ips),
        suspended=key.tenant.status != key.tenant.Status.ACTIVE,
    )


def of_key(key: Any) -> Identity:
    """The caller that an API key's row stands for."""
    return Identity(
        kind="key",
        mode=Mode(key.mode),
        scopes=frozenset(key.scopes),
        key_id=key.pk,
        key_public_id=key.public_id,
        project_id=key.project_id,
        expires_at=_seconds(key.expires_at),
        **_tenant_fields(key.tenant, Mode(key.mode)),
        **_allowance(key.tenant, key),
    )


def of_tenant(tenant: Any, mode: Mode) -> Identity:
    """A tenant as a whole, with what is allowed to it: nobody can call as that."""
    fields = {**_tenant_fields(tenant, mode), **_allowance(tenant)}
    return Identity(kind="", mode=mode, scopes=frozenset(), **fields)


def of_house(mode: Mode) -> Identity:
    """All tenants together, with what the house allows them."""
    from tenants.models import HousePolicy, in_force_since

    house = HousePolicy.current()
    quotas = tuple(quota for quota in _house_quotas(house) if quota.scope is QuotaScope.GLOBAL)
    since = in_force_since(house)
    return Identity(kind="", mode=mode, scopes=frozenset(), quotas=quotas, quotas_since=since)


def family_ended(family: str) -> bool:
    """Whether the sign-in that a token stems from was ended (signed out, copied, password)."""
    from accounts.models import RefreshFamily

    return not RefreshFamily.objects.filter(pk=family, revoked_at=None).exists()


def user_record(public_id: str, tenant_public_id: str) -> Record | None:
    from accounts.models import User
    from tenants.models import Project

    user = User.objects.filter(public_id=public_id, is_active=True).first()
    if user is None:
        return None
    identity = Identity(
        kind="user",
        mode=Mode.LIVE,
        scopes=frozenset(),
        user_id=user.pk,
        user_public_id=user.public_id,
        is_staff=user.is_staff,
    )
    if not tenant_public_id:
        return Record(identity=identity)
    membership = (
        user.memberships.select_related("tenant__plan")
        .filter(tenant__public_id=tenant_public_id)
        .first()
    )
    if membership is None:
        return None
    tenant = membership.tenant
    identity = replace(
        identity,
        role=membership.role,
        scopes=frozenset({"*"}) if membership.role in _CALLERS else frozenset(),
        project_id=Project.objects.filter(tenant=tenant).values_list("pk", flat=True).first(),
        **_tenant_fields(tenant, Mode.LIVE),
        **_allowance(tenant),
    )
    return Record(identity=identity, suspended=tenant.status != tenant.Status.ACTIVE)


def _tenant_fields(tenant: Any, mode: Mode) -> dict[str, Any]:
    return {
        "tenant_id": tenant.pk,
        "tenant": tenant.slug,
        "tenant_public_id": tenant.public_id,
        "time_zone": tenant.time_zone,
        "markup": tenant.plan.markup,
        "hit_price": tenant.plan.cache_hit_microusd if mode is Mode.LIVE else 0,
        "fan_out": tenant.plan.fan_out,
        "allow_house_fallback": tenant.allow_house_fallback,
        "keep_warm": tenant.keep_warm,
    }


def _allowance(tenant: Any, key: Any = None) -> dict[str, Any]:
    """The rate limits of whoever says any, the nearest first; the quotas of all, the nearest
    instead of those about the same thing; and the house's besides."""
    from tenants.models import HousePolicy, in_force_since

    house = HousePolicy.current()
    holders = [tenant.plan, tenant] + ([] if key is None else [key])
    said = [row.rate_limits for row in reversed(holders) if row.rate_limits is not None]
    own = compile_quotas(tenant.plan.quotas)
    own = merge_quotas(own, compile_quotas(tenant.quotas))
    if key is not None:
        own = merge_quotas(own, compile_quotas(key.quotas, QuotaScope.KEY))
    limits = (*compile_rate_limits(house.rate_limits), *compile_rate_limits(said[0]))
    return {
        "rate_limits": tuple(
            dict.fromkeys(limit for limit in limits if limit.scope is not Scope.PROVIDER)
        ),
        "quotas": tuple(dict.fromkeys((*_house_quotas(house), *own))),
        "quotas_since": in_force_since(house, *holders),
    }


def _house_quotas(house: Any) -> list[Quota]:
    """All but the providers'. What all tenants share goes by the house's clock, not by theirs."""
    return [
        replace(quota, time_zone=house.time_zone) if quota.scope is QuotaScope.GLOBAL else quota
        for quota in compile_quotas(house.quotas)
        if quota.scope is not QuotaScope.PROVIDER
    ]


def warm_record(tenant_id: int) -> Record | None:
    from tenants.models import Project, Tenant

    tenant = Tenant.objects.select_related("plan").filter(pk=tenant_id).first()
    if tenant is None:
        return None
    project = Project.objects.filter(tenant=tenant).values_list("pk", flat=True).first()
    identity = replace(
        of_tenant(tenant, Mode.LIVE), kind=WARM, scopes=frozenset({"*"}), project_id=project
    )
    return Record(identity, suspended=tenant.status != tenant.Status.ACTIVE)


def _seconds(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
