"""Admit: every limit, quota and slot that covers a call, claimed in one step, all or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from accounts.identity import WARM, Identity
from billing.book import PriceBook
from gateway.aggregating import ALL_COUNT
from gateway.exchange import Exchange
from gateway.headers import limit_headers
from gateway.routing import Plan
from gateway.worst_case import (
    BY_OUTPUT,
    WorstCase,
    less_output,
    limit_output,
    set_output_limit,
    worst_case,
)
from lib.problems import Problem
from providers.call import Call
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope
from tenants.quotas import Metric
from usage.admission import Admissions, Grant
from usage.counters.claims import Amounts, Part, RateClaim, State
from usage.demand import Demand, Demands


class Look(NamedTuple):
    """Why the caller's own limits would refuse a call, and of each candidate what its provider's
    refuse of what they are asked; of none where no provider counts anything."""

    refusal: Problem | None
    providers: list[tuple[Sequence[State], Part]]


class Admitting:
    """One for the whole process."""

    def __init__(
        self, admissions: Admissions, *, warm_per_minute: int = 60, share: int = 10
    ) -> None:
        """`warm_per_minute` bounds the warm calls of all gateways together, and `share` what they
        may use of their tenant's and a provider's limits and quotas, in per cent."""
        self._admissions = admissions
        self._demands = Demands()
        self._share = share
        bound = RateLimit(Scope.PROVIDER, max(1, warm_per_minute), 60)
        self._warm = RateClaim(bound, "rate:warm")

    async def admit(
        self,
        exchange: Exchange,
        identity: Identity,
        call: Call,
        plan: Plan,
        *,
        now: float,
        prices: PriceBook,
        kept: bool = False,
    ) -> Grant:
        """Every limit, quota and slot of the call and of the first provider with room, in one
        step. Of a call whose answer is `kept`, only the caller's own, for the price of a hit.
        Raises RateLimited, QuotaExceeded, PriceUnknown, InvalidRequest or Unavailable."""
        size = len(exchange.query) + (len(call.body) if call.file is None else call.file.sent)
        share = self._share if identity.kind == WARM else 100
        demand = self._demands.of_caller(
            identity, plan.route.operation, plan.route.name, exchange.address, share
        )
        if kept:
            amounts = Amounts(1, 0, identity.hit_price, 1, size)
            base = Part(demand.claims(now), amounts)
            return _granted(exchange, await self._admissions.admit(exchange.request_id, base, ()))
        offers = self._offers(identity, plan, share)
        metrics = _metrics(identity, demand, offers)
        limited = limit_output(call, plan) if metrics & BY_OUTPUT else 0
        while True:
            worst = worst_case(
                call,
                plan,
                metrics,
                prices,
                size=size,
                at=now,
                markup=identity.markup,
            )
            claims = demand.claims(now)
            if identity.kind == WARM:
                claims = (*claims, self._warm)
            amounts = (
                worst.amounts_of_all(size, len(plan.candidates))
                if plan.together in ALL_COUNT
                else worst.amounts(size)
            )
            base = Part(claims, amounts)
            options = _options(offers, plan, worst, now)
            grant = await self._admissions.admit(exchange.request_id, base, options)
            limited = less_output(grant.refusal, worst, limited)
            if not limited:
                return _granted(exchange, grant)
            set_output_limit(call, limited)

    async def look(
        self, identity: Identity, call: Call, plan: Plan, *, now: float, prices: PriceBook
    ) -> Look:
        """What would refuse the call now, which is admitted nowhere. Raises PriceUnknown,
        CountersAway or StoreAway."""
        size = len(call.body)
        demand = self._demands.of_caller(identity, plan.route.operation, plan.route.name, "")
        offers = self._offers(identity, plan, 100)
        metrics = _metrics(identity, demand, offers)
        limited = limit_output(call, plan) if metrics & BY_OUTPUT else 0
        worst = worst_case(call, plan, metrics, prices, size=size, at=now, markup=identity.markup)
        base = Part(demand.claims(now), worst.amounts(size))
        refusal = await self._admissions.would_refuse(base)
        if less_output(refusal, worst, limited):
            refusal = None
        options = _options(offers, plan, worst, now)
        return Look(refusal, [(await self._admissions.look(part), part) for part in options])

    def _offers(self, identity: Identity, plan: Plan, share: int) -> list[Demand | None]:
        """What the candidates' providers count; empty where none counts anything."""
        if identity.mode is Mode.TEST:
            return []
        offers = [
            self._demands.of_provider(
                candidate.target.provider,
                candidate.upstream.model,
                plan.route.operation,
                share,
            )
            for candidate in plan.candidates
        ]
        return offers if any(offers) else []

    async def admit_listing(self, exchange: Exchange, identity: Identity, name: str) -> None:
        """A list asks nothing of a provider: only calls a minute and the like count it."""
        demand = self._demands.of_caller(identity, name, name, exchange.address)
        counted = [
            claim
            for claim in demand.fixed
            if type(claim) is RateClaim and claim.metric is Metric.REQUESTS
        ]
        grant = await self._admissions.admit(
            exchange.request_id, Part(counted, Amounts(requests=1)), ()
        )
        _granted(exchange, grant)


def _metrics(
    identity: Identity, demand: Demand, offers: Sequence[Demand | None]
) -> frozenset[Metric]:
    """What is counted of the call by anybody."""
    metrics = demand.metrics
    for offer in offers:
        metrics = metrics | offer.metrics if offer else metrics
    if identity.mode is Mode.TEST:
        metrics -= {Metric.COST}  # it is free, whatever the model
    return metrics


def _options(
    offers: Sequence[Demand | None], plan: Plan, worst: WorstCase, now: float
) -> list[Part]:
    """What a try at each candidate claims of its provider."""
    return [
        Part(
            offer.claims(now) if offer else (),
            worst.amounts_at(place),
            plan.candidates[place].upstream.provider,
        )
        for place, offer in enumerate(offers)
    ]


def _granted(exchange: Exchange, grant: Grant) -> Grant:
    """The answer's limit headers are true of a refusal too."""
    exchange.limits = limit_headers(grant.states)
    if grant.refusal is not None:
        raise grant.refusal
    return grant
