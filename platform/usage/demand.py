"""What a call claims: which limits and quotas cover it, and by whose counters.

Callers, operations and routes are few compared with calls, so each combination's claims are made
once a window and remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from accounts.identity import Identity
from providers.snapshot import ProviderSpec
from tenants.keys import Mode
from tenants.limits import LimitMetric, RateLimit
from tenants.limits import Scope as LimitScope
from tenants.quotas import IN_FORCE_SECONDS, Metric, Quota, QuotaScope
from tenants.windows import period
from usage.counters.claims import MICROSECONDS, Claim, QuotaClaim, RateClaim, SlotClaim

MAX_REMEMBERED = 50_000
Subject = tuple[tuple[str, int | str], ...]
Limited = tuple[RateLimit, str]  # and whose it is
Counted = tuple[Quota, str, Subject, int]  # whose it is, by which columns, with which weight


@dataclass(slots=True)
class Demand:
    """The claims of one kind of call. `metrics` are those that any of them counts."""

    fixed: tuple[Claim, ...]
    quotas: tuple[Counted, ...]
    time_zone: str
    since: int
    metrics: frozenset[Metric] = field(init=False)
    _claims: tuple[Claim, ...] = field(init=False)
    _from: float = 0.0
    _until: float = 0.0

    def __post_init__(self) -> None:
        counted = {quota.metric for quota, *_ in self.quotas}
        counted |= {claim.metric for claim in self.fixed if type(claim) is RateClaim}
        self.metrics = frozenset(counted)
        self._claims = self.fixed
        if not self.quotas:
            self._until = float("inf")

    def claims(self, now: float) -> tuple[Claim, ...]:
        """All claims, those of quotas in the windows that `now` (unix seconds) lies in."""
        if self._from <= now < self._until:
            return self._claims
        # Calls that began before the quotas were changed may still run, claiming nothing. So a
        # counter is filled at the change, to hold at once, and once more when those have ended.
        in_force = now * MICROSECONDS >= self.since
        since = self.since if in_force else self.since - IN_FORCE_SECONDS * MICROSECONDS
        periods = [
            period(quota.window, now, quota.time_zone or self.time_zone)
            for quota, *_ in self.quotas
        ]
        self._claims = self.fixed + tuple(
            QuotaClaim(
                quota=quota,
                key=_counter_key(self.quotas[:place], quota, whose, periods[place].name),
                period=periods[place],
                since=since,
                subject=subject,
                weight=weight,
            )
            for place, (quota, whose, subject, weight) in enumerate(self.quotas)
        )
        self._from = max(each.starts for each in periods)
        self._until = min(each.ends or float("inf") for each in periods)
        if not in_force:
            self._until = min(self._until, self.since / MICROSECONDS)
        return self._claims


class Demands:
    """Makes demands, and remembers them for as long as what they were made from is the same."""

    def __init__(self) -> None:
        self._callers: dict[tuple[object, ...], tuple[Identity, Demand]] = {}
        self._providers: dict[tuple[str, str, str, int], tuple[ProviderSpec, Demand]] = {}

    def of_caller(
        self, identity: Identity, operation: str, route: str, address: str, share: int = 100
    ) -> Demand:
        """`share` is as of_provider's: the same for all calls of this identity."""
        key = (identity.tenant_id, identity.client, address, operation, route)
        known = self._callers.get(key)
        if known is not None and known[0] is identity:
            return known[1]
        if len(self._callers) >= MAX_REMEMBERED:
            self._callers.clear()
        demand = _of_caller(identity, operation, route, address, share=share)
        self._callers[key] = (identity, demand)
        return demand

    def of_provider(
        self, provider: ProviderSpec, model: str, operation: str, share: int = 100
    ) -> Demand | None:
        """None where the provider has neither limits nor quotas. All calls with the same `share`
        may together use that many per cent of each, and count in the whole too."""
        if not provider.rate_limits and not provider.quotas:
            return None
        key = (provider.slug, model, operation, share)
        known = self._providers.get(key)
        if known is not None and known[0] is provider:
            return known[1]
        if len(self._providers) >= MAX_REMEMBERED:
            self._providers.clear()
        demand = _of_provider(provider, model, operation, share)
        self._providers[key] = (provider, demand)
        return demand


def quotas_of(identity: Identity, now: float, route: str = "") -> list[QuotaClaim]:
    """A caller's quotas in their present windows, whatever operations they cover, to be shown.
    Those of routes only where one is named."""
    quotas: list[Counted] = []
    for quota in identity.quotas:
        if quota.scope is QuotaScope.ROUTE and not route:
            continue
        quotas += _counted(quota, identity, route, weight=1)
    return _shown(quotas, identity.time_zone, identity.quotas_since, now)


def quotas_of_provider(provider: ProviderSpec, now: float) -> list[QuotaClaim]:
    quotas = [(quota, *_of(provider), 1) for quota in provider.quotas]
    return _shown(quotas, provider.time_zone, provider.quotas_since, now)


def _shown(quotas: list[Counted], time_zone: str, since: int, now: float) -> list[QuotaClaim]:
    demand = Demand((), tuple(quotas), time_zone, since)
    return [claim for claim in demand.claims(now) if type(claim) is QuotaClaim]


def _of(provider: ProviderSpec) -> tuple[str, Subject]:
    return provider.slug, (("provider", provider.slug),)


def _counted(quota: Quota, identity: Identity, route: str, weight: int) -> list[Counted]:
    """A quota with whose it is, and by which columns of the ledger; of a caller without a
    project, key or user nothing is counted by it."""
    subject = _quota_subject(quota.scope, identity, route)
    if subject is None:
        return []
    whose, columns = subject
    mode: Subject = (("mode", identity.mode.value),)
    if identity.mode is Mode.TEST:
        whose = f"test:{whose}"  # test calls are free: they use up nothing of the live
    return [(quota, whose, columns + mode, weight)]


def _of_caller(
    identity: Identity, operation: str, route: str, address: str, *, share: int
) -> Demand:
    limits = [
        (limit, _limit_subject(limit.scope, identity, operation, route, address))
        for limit in identity.rate_limits
        if limit.covers(operation)
    ]
    quotas: list[Counted] = []
    for quota in identity.quotas:
        if not quota.covers(operation):
            continue
        quotas += _counted(quota, identity, route, quota.weight(operation))
    return _demand(limits, quotas, identity.time_zone, identity.quotas_since, share=share)


def _of_provider(provider: ProviderSpec, model: str, operation: str, share: int) -> Demand:
    limits = [
        (limit, provider.slug if limit.scope is LimitScope.PROVIDER else f"{provider.slug}/{model}")
        for limit in provider.rate_limits
        if limit.covers(operation)
    ]
    quotas: list[Counted] = [
        (quota, *_of(provider), quota.weight(operation))
        for quota in provider.quotas
        if quota.covers(operation)
    ]
    return _demand(limits, quotas, provider.time_zone, provider.quotas_since, share=share)


def _demand(
    limits: list[Limited], quotas: list[Counted], time_zone: str, since: int, *, share: int
) -> Demand:
    """With less than all of each: of that share, and of the whole."""
    if share < 100:
        limits += [(_part_of_limit(limit, share), f"{share}%:{of}") for limit, of in limits]
        quotas += [
            (_part_of_quota(quota, share), f"{share}%:{of}", subject, weight)
            for quota, of, subject, weight in quotas
        ]
    fixed = [_limit_claim(limit, subject) for limit, subject in limits]
    return Demand(tuple(fixed), tuple(quotas), time_zone, since)


def _part_of_limit(limit: RateLimit, share: int) -> RateLimit:
    """Of a limit there is always at least one: it is soon whole again."""
    return replace(limit, limit=max(1, limit.limit * share // 100))


def _part_of_quota(quota: Quota, share: int) -> Quota:
    return replace(quota, limit=quota.limit * share // 100, hard=True, thresholds=())


def _counter_key(before: tuple[Any, ...], quota: Quota, whose: str, period_name: str) -> str:
    """A second quota that counts alike (a soft one beside a hard one, say) has a counter of its
    own: in a shared one, one call would count twice."""
    alike = sum(
        (other.window, other.counter, owner) == (quota.window, quota.counter, whose)
        for other, owner, *_ in before
    )
    key = f"quota:{whose}:{period_name}"
    return f"{key}#{alike + 1}" if alike else key


def _limit_claim(limit: RateLimit, subject: str) -> RateClaim | SlotClaim:
    if limit.metric is LimitMetric.CONCURRENCY:
        return SlotClaim(limit, f"slots:{limit.key}:{subject}")
    return RateClaim(limit, f"rate:{limit.key}:{subject}")


def _limit_subject(
    scope: LimitScope, identity: Identity, operation: str, route: str, address: str
) -> str:
    """Whose allowance it is. Tenants may share addresses and people, but never an allowance."""
    tenant = identity.tenant_public_id
    if scope is LimitScope.IP:
        return f"{tenant}@{address}"
    if scope is LimitScope.PROJECT:
        return f"{tenant}/{identity.project_id}"
    if scope is LimitScope.TENANT:
        return tenant
    if scope is LimitScope.ENDPOINT:
        return f"{tenant}:{operation}"
    if scope is LimitScope.MODEL:
        return f"{tenant}:{route}"
    return f"{tenant}:{identity.client}"


def _quota_subject(scope: QuotaScope, identity: Identity, route: str) -> tuple[str, Subject] | None:
    """Whose a quota's counter is, and by which columns the ledger tells it. None for a caller
    without such a thing (a user has no key, a key no user)."""
    tenant = identity.tenant_public_id
    columns: Subject = (("tenant_id", identity.tenant_id or 0),)
    if scope is QuotaScope.GLOBAL:
        return "global", ()
    if scope is QuotaScope.TENANT:
        return tenant, columns
    if scope is QuotaScope.ROUTE:
        return f"{tenant}:{route}", (*columns, ("route", route))
    column, row, name = {
        QuotaScope.PROJECT: ("project_id", identity.project_id, f"{tenant}/{identity.project_id}"),
        QuotaScope.KEY: ("key_id", identity.key_id, f"key_{identity.key_public_id}"),
        QuotaScope.USER: ("user_id", identity.user_id, f"{tenant}:{identity.user_public_id}"),
    }[scope]
    return None if row is None else (name, (*columns, (column, row)))
