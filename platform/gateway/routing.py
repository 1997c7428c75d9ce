"""Resolve: from what a call asks for to the ordered list of targets that may answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from accounts.identity import Identity
from cache.policy import CachePolicy
from gateway.fitting import (
    NOTHING,
    elsewhere,
    least_context,
    refusal,
    required_capabilities,
    tokens_beyond,
    unfit,
)
from gateway.strategies import Turns
from lib.problems import Forbidden, NotFound, Problem, Unavailable
from providers import cache_rules
from providers.breakers import OF_A_TENANT
from providers.cache_rules import Semantic
from providers.call import Call, Upstream
from providers.operations import Kind, Operation
from providers.snapshot import RouteSpec, Snapshot, TargetSpec
from providers.timeouts import Timeouts
from tenants.keys import Mode


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that may be tried, with the far side this caller reaches it by.

    `name` is what its scores are kept by, `breakers` are what stands before it, its provider's
    and, where it has a model, its own: in test mode, where failures are scripted and may rest
    nobody else's target, those of the tenant. `own`: with a credential of the tenant's.
    `upstreams` is that far side once for each credential that is not drained, if any is left;
    they differ in nothing else from `upstream`.
    """

    target: TargetSpec
    upstream: Upstream
    allow_private: bool
    upstreams: tuple[Upstream, ...]
    name: str = ""
    breakers: tuple[str, ...] = ()
    own: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    cache: CachePolicy = field(default_factory=CachePolicy)

    @property
    def provider(self) -> str:
        return self.upstream.provider

    @property
    def model(self) -> str:
        return self.upstream.model

    @property
    def bulkhead(self) -> str:
        """Whose connections it uses up: its provider's, in test mode only the tenant's own."""
        return self.breakers[0] if self.breakers else self.provider

    @property
    def secrets(self) -> list[str]:
        """Of all its credentials: what nobody may read."""
        return [secret for upstream in self.upstreams for secret in upstream.secrets]

    @property
    def weight(self) -> int:
        return self.target.weight

    @property
    def houses(self) -> bool:
        """Whether it is the house's credential that it is reached with."""
        return self.upstream.secret is not None and not self.own


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that may not be tried, and why, in one word."""

    provider: str
    reason: str
    model: str = ""

    @property
    def wished(self) -> bool:
        """Whether the caller itself ruled it out."""
        return self.reason in ("not_asked_for", "no_fallback")

    def as_attempt(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "outcome": f"skipped_{self.reason}",
            "status": 0,
            "latency_ms": 0,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to try, in order, and for how long.

    `least_context` is the smallest of its models' (tokens; 0: none is known). `bound`: once it
    was tried with the tenant's own credential, the house's is out of the question. `cache` says
    whether an answer is looked for in the cache; how long a new one is kept there is the
    candidate's to say. `configuration` names the state of all that its answers depend on.
    `semantic`: answers to questions that are nearly the same are served too. `together` is how the
    answers of all candidates, asked at once, are combined; empty: they are asked one after another,
    until one answers.
    """

    route: RouteSpec
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    least_context: int = 0
    bound: bool = False
    turns: Turns = field(default_factory=Turns)
    cache: CachePolicy = field(default_factory=CachePolicy)
    configuration: str = ""
    semantic: Semantic | None = None
    together: str = ""

    def reordered(self, candidates: Sequence[Candidate]) -> Plan:
        return replace(self, candidates=tuple(candidates), timeouts=candidates[0].timeouts)

    def without(self, dropped: Sequence[Candidate], reason: str) -> Plan:
        """Of the others there must be one."""
        gone = set(map(id, dropped))  # a route may name one target twice, and both are equal
        left = [each for each in self.candidates if id(each) not in gone]
        skipped = [Skipped(each.provider, reason, each.model) for each in dropped]
        plan = self.reordered(left)
        return replace(plan, skipped=(*self.skipped, *skipped))


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What the caller says about providers: `?provider=`, `?fallback=false`, and with `?strategy=`
    how several are asked `together`; empty: one after another."""

    provider: str = ""
    fallback: bool = True
    together: str = ""

    def excludes(self, target: TargetSpec) -> str:
        """Why, in one word; "" if it does not."""
        return "not_asked_for" if self.provider not in ("", target.provider.slug) else ""


_NO_TURNS = Turns()
_USUAL = Timeouts()
PRIORITY = "priority"
MAX_PLANS = 10_000


def resolve(
    snapshot: Snapshot,
    identity: Identity,
    operation: Operation,
    call: Call,
    *,
    narrowing: Narrowing,
    sandbox_url: str,
) -> Plan:
    """The plan for one call. Raises Forbidden, NotFound, InvalidRequest or Unavailable."""
    if not identity.may(operation.name):
        raise Forbidden(
            f"This key lacks the scope {operation.name!r}. Use a key that has it.",
            code="insufficient_scope",
        )
    route = _route(snapshot, operation, call)
    needs = required_capabilities(call) if operation.kind is Kind.CHAT else NOTHING
    plan = _remembered(
        snapshot,
        identity,
        route,
        operation=operation,
        needs=needs,
        narrowing=narrowing,
        sandbox_url=sandbox_url,
    )
    if plan.least_context and (tokens := tokens_beyond(plan.least_context, call, needs)):
        return _plan(
            snapshot,
            identity,
            route,
            operation=operation,
            needs=needs,
            narrowing=narrowing,
            sandbox_url=sandbox_url,
            tokens=tokens,
        )
    return plan


def _remembered(
    snapshot: Snapshot,
    identity: Identity,
    route: RouteSpec,
    *,
    operation: Operation,
    needs: frozenset[str],
    narrowing: Narrowing,
    sandbox_url: str,
) -> Plan:
    """The same few plans over and over: each is made once a snapshot."""
    key = (
        operation.name,
        route.name,
        identity.mode,
        identity.tenant_id,
        identity.allow_house_fallback,
        needs,
        narrowing.provider,
    )
    plan: Plan | None = snapshot.plans.get(key)
    if plan is None:
        plan = _plan(
            snapshot,
            identity,
            route,
            operation=operation,
            needs=needs,
            narrowing=narrowing,
            sandbox_url=sandbox_url,
        )
        _remember(snapshot, key, plan)
    return plan


def _remember(snapshot: Snapshot, key: Any, what: Any) -> None:
    if len(snapshot.plans) > MAX_PLANS:
        snapshot.plans.clear()
    snapshot.plans[key] = what


def _plan(
    snapshot: Snapshot,
    identity: Identity,
    route: RouteSpec,
    *,
    operation: Operation,
    needs: frozenset[str],
    narrowing: Narrowing,
    sandbox_url: str,
    tokens: int = 0,
) -> Plan:
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    for target in route.targets:
        reason = (
            narrowing.excludes(target)
            or unfit(target, needs, tokens)
            or elsewhere(target, route, operation)
        )
        upstreams = () if reason else _upstreams(target, identity, sandbox_url)
        if upstreams:
            candidates.append(_candidate(target, upstreams, identity, route, operation))
        else:
            model = target.model.model_id if target.model else ""
            skipped.append(Skipped(target.provider.slug, reason or "no_credential", model))
    if not candidates:
        raise _nobody(operation, skipped, narrowing)
    plan = Plan(
        route,
        tuple(candidates),
        tuple(skipped),
        candidates[0].timeouts,
        least_context(each.target for each in candidates) if operation.kind is Kind.CHAT else 0,
        bound=not identity.allow_house_fallback and any(each.own for each in candidates),
        turns=_turns(snapshot, route, candidates),
        cache=CachePolicy(**cache_rules.merged(operation.cache, route.cache)),
        configuration=_configuration(route),
        semantic=cache_rules.semantic(route.cache) if operation.kind is Kind.CHAT else None,
    )
    barred = houses_after_own(plan) if plan.bound else []
    return plan.without(barred, "house_credential") if barred else plan


def houses_after_own(plan: Plan) -> list[Candidate]:
    """Whom a call may not fall back to: what begins on the tenant's own credential never ends
    on the house's. Where the strategy, and not the route's order, says where a call begins, that
    is every target with the house's credential, since any of them might come later."""
    candidates = plan.candidates
    first = next(place for place, each in enumerate(candidates) if each.own)
    after = candidates[first:] if plan.route.strategy == PRIORITY else candidates
    return [each for each in after if each.houses]


def _configuration(route: RouteSpec) -> str:
    targets = [f"{target.name}={target.provider.version}" for target in route.targets]
    return "\n".join([route.version, *targets])


def _candidate(
    target: TargetSpec,
    upstreams: tuple[Upstream, ...],
    identity: Identity,
    route: RouteSpec,
    operation: Operation,
) -> Candidate:
    is_test = identity.mode is Mode.TEST
    whose = _whose(identity)
    drained = {
        each.public_id
        for each in target.provider.credentials_of(identity.tenant_id)
        if each.drained
    }
    return Candidate(
        target,
        upstreams[0],
        upstreams=tuple(each for each in upstreams if each.credential not in drained),
        allow_private=is_test or target.provider.allow_private_network,
        name=whose + target.name,
        breakers=tuple(whose + name for name in _names(target)),
        own=not is_test and bool(target.provider.secrets.get(identity.tenant_id)),
        timeouts=_timeouts(target, operation).over(route.timeouts),
        cache=CachePolicy(
            **cache_rules.merged(
                operation.cache,
                cache_rules.of_manifest(target.provider.manifest, route.operation),
                route.cache,
            )
        ),
    )


def _timeouts(target: TargetSpec, operation: Operation) -> Timeouts:
    """The provider's; where it has the usual ones, those of an operation that takes longer."""
    told = target.provider.timeouts
    return told.over(operation.timeouts) if operation.timeouts and told == _USUAL else told


def _names(target: TargetSpec) -> tuple[str, ...]:
    provider = target.provider.slug
    return (provider,) if target.model is None else (provider, target.name)


def _turns(snapshot: Snapshot, route: RouteSpec, candidates: Sequence[Candidate]) -> Turns:
    """Those of a weighted route, which all callers of the same targets take together."""
    if route.strategy != "weighted":
        return _NO_TURNS
    names = tuple(each.name for each in candidates)
    key = ("turns", route.operation, route.name, names)
    turns: Turns | None = snapshot.plans.get(key)
    if turns is None:
        turns = Turns()
        _remember(snapshot, key, turns)
    return turns


def _route(snapshot: Snapshot, operation: Operation, call: Call) -> RouteSpec:
    if operation.name in snapshot.disabled_operations:
        raise NotFound("This operation is switched off here.")
    name = "" if operation.kind is Kind.DATA else call.params["model"]
    route = snapshot.route(operation.name, name)
    if route is not None and route.targets:
        return route
    if operation.kind is Kind.DATA:
        raise NotFound("No provider serves this operation here yet.")
    raise NotFound(
        f"There is no model {name[:80]!r} for {operation.name}. `GET /api/v1/models` lists those "
        "you may call, and for what.",
        param="model",
    )


def _upstreams(target: TargetSpec, identity: Identity, sandbox_url: str) -> tuple[Upstream, ...]:
    """With each credential that this caller may use. The sandbox takes any, and what a tenant
    scripts there rests its own only."""
    if identity.mode is not Mode.TEST:
        return target.live(identity.tenant_id)
    if not sandbox_url:
        return ()
    upstream = target.sandbox(sandbox_url)
    return (replace(upstream, credential=_whose(identity) + upstream.provider),)


def _whose(identity: Identity) -> str:
    """What the names of a tenant's own breakers and credentials in test mode begin with."""
    return f"{OF_A_TENANT}{identity.tenant_id}:" if identity.mode is Mode.TEST else ""


def _nobody(operation: Operation, skipped: list[Skipped], narrowing: Narrowing) -> Problem:
    reasons = {skip.reason for skip in skipped}
    return refusal(operation, reasons, narrowing.provider) or Unavailable(
        "No provider of this route has a credential yet. Staff add one in the admin; "
        "a test key works without.",
        attempts=[skip.as_attempt() for skip in skipped],
    )
