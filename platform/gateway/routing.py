"""Resolve: from what a call asks for to the ordered list of targets that may answer it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.identity import Identity
from lib.problems import Forbidden, InvalidRequest, NotFound, Unavailable
from providers.call import Call, Upstream
from providers.operations import Kind, Operation
from providers.snapshot import RouteSpec, Snapshot, TargetSpec
from providers.timeouts import Timeouts
from tenants.keys import Mode


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that may be tried, with the far side this caller reaches it by."""

    target: TargetSpec
    upstream: Upstream
    allow_private: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """A target that may not be tried, and why, in one word."""

    provider: str
    reason: str

    def as_attempt(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "outcome": f"skipped_{self.reason}",
            "status": 0,
            "latency_ms": 0,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom to try, in order, and for how long."""

    route: RouteSpec
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller says about providers: `?provider=`, `?fallback=false`."""

    provider: str = ""
    fallback: bool = True


_NO_WISH = Wish()
_NONE: frozenset[str] = frozenset()
MAX_PLANS = 10_000


def resolve(
    snapshot: Snapshot,
    identity: Identity,
    operation: Operation,
    call: Call,
    *,
    wish: Wish,
    sandbox_url: str,
) -> Plan:
    """The plan for one call. Raises Forbidden, NotFound, InvalidRequest or Unavailable."""
    if not identity.may(operation.name):
        raise Forbidden(
            f"This key lacks the scope {operation.name!r}. Use a key that has it.",
            code="insufficient_scope",
        )
    route = _route(snapshot, operation, call)
    needs = required_capabilities(call) if operation.kind is Kind.CHAT else _NONE
    if route.strategy != "priority" or wish != _NO_WISH:
        return _plan(
            route,
            identity,
            operation=operation,
            needs=needs,
            wish=wish,
            sandbox_url=sandbox_url,
        )
    # The same few plans over and over: each is made once a snapshot.
    key = (operation.name, route.name, identity.mode, identity.tenant_id, needs)
    plan: Plan | None = snapshot.plans.get(key)
    if plan is None:
        if len(snapshot.plans) > MAX_PLANS:
            snapshot.plans.clear()
        plan = _plan(
            route,
            identity,
            operation=operation,
            needs=needs,
            wish=wish,
            sandbox_url=sandbox_url,
        )
        snapshot.plans[key] = plan
    return plan


def _plan(
    route: RouteSpec,
    identity: Identity,
    *,
    operation: Operation,
    needs: frozenset[str],
    wish: Wish,
    sandbox_url: str,
) -> Plan:
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    for target in _ordered(route):
        reason = _unfit(target, needs, wish)
        upstream = None if reason else _upstream(target, identity, sandbox_url)
        if upstream is not None:
            private = identity.mode is Mode.TEST or target.provider.allow_private_network
            candidates.append(Candidate(target, upstream, private))
        else:
            skipped.append(Skipped(target.provider.slug, reason or "no_credential"))
    if not candidates:
        raise _nobody(operation, skipped, wish)
    chosen = candidates if wish.fallback else candidates[:1]
    timeouts = candidates[0].target.provider.timeouts.over(route.timeouts)
    return Plan(route, tuple(chosen), tuple(skipped), timeouts)


def required_capabilities(call: Call) -> frozenset[str]:
    """What a chat call needs of a model beyond plain text."""
    params = call.params
    needs: set[str] = set()
    if params.get("tools"):
        needs.add("tools")
    response_format = params.get("response_format")
    if isinstance(response_format, Mapping) and response_format.get("type") == "json_schema":
        needs.add("json_schema")
    for message in params["messages"]:
        if isinstance(message.get("content"), list) and _has_image(message["content"]):
            needs.add("vision")
    return frozenset(needs) if needs else _NONE


def _has_image(content: list[Any]) -> bool:
    return any(isinstance(part, Mapping) and part.get("type") == "image_url" for part in content)


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
        f"There is no model {name[:80]!r}. `GET /api/v1/models` lists those you may call.",
        param="model",
    )


def _ordered(route: RouteSpec) -> list[TargetSpec]:
    """By position, or drawn by weight without putting back."""
    targets = list(route.targets)
    if route.strategy == "weighted":
        targets.sort(key=lambda target: random.random() ** (1 / target.weight), reverse=True)
    return targets


def _unfit(target: TargetSpec, needs: frozenset[str], wish: Wish) -> str:
    if wish.provider and target.provider.slug != wish.provider:
        return "not_asked_for"
    if target.model and not needs <= target.model.capabilities:
        return "incapable"
    return ""


def _upstream(target: TargetSpec, identity: Identity, sandbox_url: str) -> Upstream | None:
    if identity.mode is Mode.TEST:
        return target.sandbox(sandbox_url) if sandbox_url else None
    return target.live(identity.tenant_id)


def _nobody(operation: Operation, skipped: list[Skipped], wish: Wish) -> Exception:
    reasons = {skip.reason for skip in skipped}
    if wish.provider and "no_credential" not in reasons and "incapable" not in reasons:
        detail = f"The provider {wish.provider[:60]!r} does not serve {operation.name} here."
        return InvalidRequest(
            detail, param="provider", errors=[{"detail": detail, "pointer": "/provider"}]
        )
    if "incapable" in reasons and "no_credential" not in reasons:
        return InvalidRequest(
            "No target of this model can do what the request asks for (tools, images or a JSON "
            "schema). Choose another model.",
            param="model",
        )
    return Unavailable(
        "No provider of this route has a credential yet. Staff add one in the admin; "
        "a test key works without.",
        attempts=[skip.as_attempt() for skip in skipped],
    )
