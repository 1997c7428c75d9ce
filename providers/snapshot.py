"""The switchboard in memory: providers, models and routes as the data path reads them.

`load()` reads the tables once, with secrets opened, into frozen objects; the data path swaps
the whole snapshot when the tables' revision moves, so a call sees one state from end to end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from lib.sealing import SealBroken
from providers import answer_checks, cache_rules, effective, models
from providers.adapter import Adapter
from providers.answer_checks import Checks
from providers.breaker import Override, State
from providers.breaker_policy import Policies
from providers.cache_rules import Rules
from providers.call import Grant, Upstream
from providers.definition_models import Drift
from providers.dialects import adapter_for
from providers.left_out import LeftOut, Row
from providers.retry_policy import RetryPolicy
from providers.secret_form import parts_of
from providers.timeouts import Timeouts
from providers.warm_models import WarmRequest
from providers.warm_requests import WarmSpec
from tenants.limits import RateLimit, Scope, compile_rate_limits
from tenants.models import HousePolicy, in_force_since
from tenants.quotas import Quota, QuotaScope, compile_quotas, merge_quotas

log = structlog.get_logger("patchbay.snapshot")


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    """One of our secrets towards a provider. `drained`: the provider refused it, and nobody has
    said since that it is to be used again."""

    public_id: str
    secret: str = field(repr=False)
    drained: bool = False


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider as calls see it. `secrets` maps a tenant's id, or None for the house's, to all
    enabled credentials, in the order in which they were made: the drained ones too, for a
    tenant whose own is drained must not be served with the house's."""

    slug: str
    adapter: Adapter
    base_url: str
    settings: Mapping[str, Any]
    manifest: Any
    needs_credential: bool
    allow_private_network: bool
    timeouts: Timeouts
    secrets: Mapping[int | None, tuple[CredentialSpec, ...]]
    rate_limits: tuple[RateLimit, ...] = ()
    quotas: tuple[Quota, ...] = ()
    quotas_since: int = 0  # µs: all gateways count by these quotas from then on
    time_zone: str = "UTC"
    breaker: Policies = field(default_factory=Policies)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    version: str = ""  # of all that its answers depend on
    drifting: bool = False  # it answers in another shape than its definition tells

    def credentials_of(self, tenant_id: int | None) -> tuple[CredentialSpec, ...]:
        return self.secrets.get(tenant_id) or self.secrets.get(None) or ()


@dataclass(frozen=True, slots=True)
class Allowance:
    """What we may use of a provider, of which nothing else need be known."""

    slug: str
    quotas: tuple[Quota, ...]
    quotas_since: int
    time_zone: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    model_id: str
    operation: str
    context: int | None
    max_output: int | None
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One place to send a call, with both its far sides: the real one and the sandbox's."""

    provider: ProviderSpec
    model: ModelSpec | None = None
    weight: int = 1
    upstreams: dict[Any, Upstream] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        return f"{self.provider.slug}/{self.model.model_id}" if self.model else self.provider.slug

    def live(self, tenant_id: int | None) -> tuple[Upstream, ...]:
        """The real upstream, once for each credential; none where it needs one and there is
        none."""
        provider = self.provider
        credentials = provider.credentials_of(tenant_id)
        if not credentials and not provider.needs_credential:
            return (self._upstream(None, provider.base_url),)
        return tuple(
            self._upstream(each.secret, provider.base_url, each.public_id) for each in credentials
        )

    def sandbox(self, sandbox_url: str) -> Upstream:
        """The same provider, played by the sandbox: its slug, then its own path."""
        provider = self.provider
        secret = provider.adapter.secret_form.of_the_sandbox("sandbox-secret")
        played = f"{sandbox_url}/{provider.slug}"
        path = urlsplit(provider.base_url).path.rstrip("/")
        return self._upstream(secret, played + path, played=played)

    def _upstream(
        self, secret: str | None, base_url: str, credential: str = "", *, played: str = ""
    ) -> Upstream:
        known, adapter = self.upstreams.get((credential, base_url)), self.provider.adapter
        if known is None:
            known = self.upstreams[credential, base_url] = Upstream(
                provider=self.provider.slug,
                base_url=base_url,
                model=self.model.model_id if self.model else "",
                secret=secret,
                settings=self.provider.settings,
                max_output=self.model.max_output if self.model else None,
                manifest=self.provider.manifest,
                credential=credential,
                parts=parts_of(secret or "") if adapter.secret_form.parts else {},
                grant=_grant(adapter, played) if secret is not None else None,
            )
        return known


def _grant(adapter: Adapter, played: str) -> Grant | None:
    """Where tokens are to be had; with `played`, of the sandbox that is there."""
    grant = adapter.grant
    if grant is None or not played:
        return grant
    return grant._replace(url=played + urlsplit(grant.url).path)


@dataclass(frozen=True, slots=True)
class RouteSpec:
    name: str
    operation: str
    strategy: str
    targets: tuple[TargetSpec, ...]
    timeouts: Mapping[str, int] = field(default_factory=dict)
    hedge: bool = False
    fan_out: int = 5
    rescue: str = "none"
    checks: Checks | None = None
    cache: Rules = field(default_factory=dict)
    version: str = ""  # of all that its answers depend on, its targets apart


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All routes by (operation, alias); models by (operation, id) and (operation,
    "provider/id"). `left_out` could not be used. `plans` is for the gateway to remember what it
    made of them."""

    routes: Mapping[tuple[str, str], RouteSpec] = field(default_factory=dict)
    models: Mapping[tuple[str, str], RouteSpec] = field(default_factory=dict)
    providers: Mapping[str, ProviderSpec] = field(default_factory=dict)
    disabled_operations: frozenset[str] = frozenset()
    breaker_overrides: Mapping[str, Override] = field(default_factory=dict)
    warm_requests: tuple[WarmSpec, ...] = ()
    left_out: tuple[Row, ...] = ()
    plans: dict[Any, Any] = field(default_factory=dict, compare=False)

    def route(self, operation: str, name: str) -> RouteSpec | None:
        """An alias, a `provider/model`, or a model id, in this order; "" for a data operation."""
        return self.routes.get((operation, name)) or self.models.get((operation, name))


def load() -> Snapshot:
    """The tables as they are now (blocking). Rows that cannot work are left out and logged."""
    left_out = LeftOut()
    providers = _load_providers(left_out)
    specs: dict[int, tuple[ProviderSpec, ModelSpec]] = {}
    for row in models.Model.objects.filter(enabled=True):
        if row.provider_id in providers:
            with left_out.if_broken("model", row.model_id):
                specs[row.pk] = (providers[row.provider_id], _model(row))
    disabled = models.Operation.objects.filter(enabled=False).values_list("name", flat=True)
    routes = _load_routes(providers, specs, left_out)
    return Snapshot(
        routes=routes,
        models=_implicit_routes(specs.values()),
        providers={spec.slug: spec for spec in providers.values()},
        disabled_operations=frozenset(disabled),
        breaker_overrides=_load_overrides(),
        warm_requests=_load_warm_requests(),
        left_out=tuple(left_out),
    )


def spec_of(row: models.Provider) -> ProviderSpec:
    """One provider, whether or not it is enabled. Raises ValueError, KeyError or TypeError for
    a row that cannot work."""
    held = models.Credential.objects.filter(enabled=True, provider=row)
    return _provider(row, _load_secrets(held, LeftOut()).get(row.pk, {}), HousePolicy.current())


def _load_providers(left_out: LeftOut) -> dict[int, ProviderSpec]:
    secrets = _load_secrets(models.Credential.objects.filter(enabled=True), left_out)
    house = HousePolicy.current()
    specs = {}
    drifting = Exists(Drift.objects.filter(slug=OuterRef("slug")))
    rows = models.Provider.objects.filter(enabled=True).annotate(drifting=drifting)
    for row in rows.order_by("pk"):
        with left_out.if_broken("provider", row.slug):
            specs[row.pk] = _provider(row, secrets.get(row.pk, {}), house)
    return specs


def _provider(
    row: models.Provider,
    secrets: Mapping[int | None, tuple[CredentialSpec, ...]],
    house: HousePolicy,
) -> ProviderSpec:
    parts = urlsplit(row.base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the base URL is no http URL")
    if not isinstance(row.settings, dict):
        raise ValueError("the settings are no object")
    policy = effective.of_provider(row)
    adapter = adapter_for(row.adapter, row.manifest)
    return ProviderSpec(
        slug=row.slug,
        adapter=adapter,
        base_url=row.base_url.rstrip("/"),
        settings=row.settings,
        manifest=row.manifest,
        needs_credential=row.needs_credential,
        allow_private_network=row.allow_private_network,
        timeouts=Timeouts().over(row.timeouts),
        secrets={owner: _usable(held, adapter) for owner, held in secrets.items()},
        rate_limits=_rate_limits(row, house),
        quotas=_quotas(row, house),
        quotas_since=in_force_since(row, house),
        time_zone=row.time_zone,
        breaker=policy.breaker,
        retry=policy.retry,
        version=_version(row.adapter, row.base_url, row.settings, row.manifest),
        drifting=getattr(row, "drifting", False),
    )


def _usable(held: tuple[CredentialSpec, ...], adapter: Adapter) -> tuple[CredentialSpec, ...]:
    """One whose secret lacks a part is as good as drained: of no use, and yet its owner's."""
    faulty = {each for each in held if not each.drained and adapter.secret_form.fault(each.secret)}
    for each in faulty:
        log.error("credential_unusable", credential=each.public_id, reason="a part is missing")
    return tuple(replace(each, drained=True) if each in faulty else each for each in held)


def _load_overrides() -> dict[str, Override]:
    """Staff's last word on each breaker, unless it has ended."""
    rows = models.BreakerOverride.latest(timezone.now())
    return {
        row.name: Override(
            State(row.state), row.expires_at.timestamp() if row.expires_at else None, row.pk
        )
        for row in rows
    }


def _load_warm_requests() -> tuple[WarmSpec, ...]:
    return tuple(row.spec for row in WarmRequest.running().order_by("pk"))


def _rate_limits(row: models.Provider, house: HousePolicy) -> tuple[RateLimit, ...]:
    """The house's for every provider, and its own."""
    all_over = compile_rate_limits(house.rate_limits)
    limits = [limit for limit in all_over if limit.scope is Scope.PROVIDER]
    return tuple(dict.fromkeys((*limits, *compile_rate_limits(row.rate_limits, Scope.PROVIDER))))


def _quotas(row: models.Provider, house: HousePolicy) -> tuple[Quota, ...]:
    """The house's for every provider, and its own, also instead of them."""
    all_over = compile_quotas(house.quotas)
    quotas = [quota for quota in all_over if quota.scope is QuotaScope.PROVIDER]
    return merge_quotas(quotas, compile_quotas(row.quotas, QuotaScope.PROVIDER))


def allowances(rows: Iterable[models.Provider]) -> list[Allowance]:
    """Of providers that may be disabled; no secret is opened for it."""
    house = HousePolicy.current()
    found = []
    for row in rows:
        with LeftOut().if_broken("provider", row.slug):
            since = in_force_since(row, house)
            found.append(Allowance(row.slug, _quotas(row, house), since, row.time_zone))
    return found


def _load_secrets(
    rows: QuerySet[models.Credential], left_out: LeftOut
) -> dict[int, dict[int | None, tuple[CredentialSpec, ...]]]:
    secrets: dict[int, dict[int | None, tuple[CredentialSpec, ...]]] = {}
    for row in rows.order_by("pk"):
        try:
            spec = CredentialSpec(row.public_id, row.secret(), row.drained_at is not None)
        except SealBroken as error:
            left_out.credential(row.public_id, str(error))
            continue
        owners = secrets.setdefault(row.provider_id, {})
        owners[row.tenant_id] = (*owners.get(row.tenant_id, ()), spec)
    return secrets


def _model(row: models.Model) -> ModelSpec:
    return ModelSpec(
        model_id=row.model_id,
        operation=row.operation,
        context=row.context,
        max_output=row.max_output,
        capabilities=frozenset(row.capabilities),
    )


def _load_routes(
    providers: Mapping[int, ProviderSpec],
    specs: Mapping[int, tuple[ProviderSpec, ModelSpec]],
    left_out: LeftOut,
) -> dict[tuple[str, str], RouteSpec]:
    routes = {}
    rows = models.Route.objects.filter(enabled=True).prefetch_related("targets")
    for row in rows:
        with left_out.if_broken("route", str(row)):
            routes[row.operation, row.alias] = _route(row, providers, specs)
    return routes


def _route(
    row: models.Route,
    providers: Mapping[int, ProviderSpec],
    specs: Mapping[int, tuple[ProviderSpec, ModelSpec]],
) -> RouteSpec:
    Timeouts().over(row.timeouts)  # every call will ask for them
    targets = []
    for target in row.targets.all():
        if not target.enabled or target.provider_id not in providers:
            continue
        if target.model_id is None:
            targets.append(TargetSpec(providers[target.provider_id], weight=target.weight))
        elif target.model_id in specs:
            targets.append(TargetSpec(*specs[target.model_id], weight=target.weight))
    return RouteSpec(
        name=row.alias or row.operation,
        operation=row.operation,
        strategy=row.strategy,
        targets=tuple(targets),
        timeouts=row.timeouts,
        hedge=row.hedge,
        fan_out=row.fan_out,
        rescue=row.rescue,
        checks=answer_checks.parse(row.checks),  # rather no route than answers unchecked
        cache=cache_rules.parse(row.cache),
        version=_version(row.checks, row.cache),
    )


def _version(*parts: Any) -> str:
    """Equal parts, equal version, in every gateway."""
    text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _implicit_routes(
    pairs: Iterable[tuple[ProviderSpec, ModelSpec]],
) -> dict[tuple[str, str], RouteSpec]:
    """Every model may be called by its id, wherever it is served, or at one provider only.

    Some services' ids look like `provider/model` of another: there the provider counts.
    """
    by_id: dict[tuple[str, str], list[TargetSpec]] = {}
    at_one: dict[tuple[str, str], list[TargetSpec]] = {}
    for provider, model in pairs:
        target = TargetSpec(provider, model)
        by_id.setdefault((model.operation, model.model_id), []).append(target)
        at_one.setdefault((model.operation, target.name), []).append(target)
    return {
        (operation, name): RouteSpec(name, operation, "priority", tuple(found))
        for (operation, name), found in (by_id | at_one).items()
    }
