"""What changes a plan from call to call: the route's strategy, the caller's session."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from billing.book import PriceBook
from gateway.explanation import Explanation
from gateway.routing import PRIORITY, Candidate, Narrowing, Plan, houses_after_own
from gateway.scores import Scores
from gateway.sessions import Sessions
from gateway.strategies import Ask, Random, estimated, figure, order
from providers.call import Call


@dataclass(slots=True)
class Arranger:
    """One for the whole process. `resting` tells whether a target's breaker is open."""

    scores: Scores
    resting: Callable[[Candidate], bool]
    sessions: Sessions = field(default_factory=Sessions)
    random: Random = field(default_factory=random.Random)

    def arrange(
        self,
        plan: Plan,
        call: Call,
        narrowing: Narrowing,
        session: bytes | None,
        *,
        prices: PriceBook,
        at: float,
    ) -> Plan:
        """The plan in this call's order: the strategy's, but with the session's target first
        while that is healthy. `at` is unix seconds."""
        strategy = plan.route.strategy
        if strategy != PRIORITY and len(plan.candidates) > 1:
            plan = plan.reordered(
                order(
                    strategy,
                    plan.candidates,
                    self.scores,
                    _ask(plan, call, prices, at),
                    self.random,
                    turns=plan.turns,
                    resting=self.resting,
                )
            )
        if session is not None:
            plan = self._stick(plan, self.sessions.target(session))
        if not narrowing.fallback and len(plan.candidates) > 1:
            plan = plan.without(plan.candidates[1:], "no_fallback")
        return plan

    def explain(
        self, plan: Plan, call: Call, session: bytes | None, *, prices: PriceBook, at: float
    ) -> Explanation:
        """Why an arranged plan is as it is, by what is known now."""
        ask = _ask(plan, call, prices, at)
        strategy = plan.route.strategy
        figures = [figure(strategy, each, self.scores, ask) for each in plan.candidates]
        kept = session is not None and self.sessions.target(session) == plan.candidates[0].name
        return Explanation(plan, figures, in_session=kept)

    def _stick(self, plan: Plan, name: str) -> Plan:
        first = next((each for each in plan.candidates if each.name == name), None)
        if first is None or first is plan.candidates[0] or self.resting(first):
            return plan
        plan = plan.reordered([first, *(each for each in plan.candidates if each is not first)])
        barred = houses_after_own(plan) if plan.bound else []
        return plan.without(barred, "house_credential") if barred else plan


def _ask(plan: Plan, call: Call, prices: PriceBook, at: float) -> Ask:
    return Ask(plan.route.operation, call.stream, estimated(call), prices, at)
