"""The most a call can use: what is reserved for it before anything is sent.

For tokens that is every byte of the request, since no token is shorter than a byte, and all
output the call may get; a chat call that sets no limit to its output is given one. What is billed
otherwise has its most in providers/amounts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.routing import Candidate, Plan
from lib.money import marked_up
from lib.problems import PriceUnknown, Problem, QuotaExceeded
from providers.call import Call, Usage
from providers.openai_wire import DEFAULT_MAX_OUTPUT
from tenants.quotas import Metric
from usage.counters.claims import Amounts

CHAT = "chat.completions"
TOKENS_ARE_COUNTED = frozenset({CHAT, "embeddings"})
OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens")
LEAST_OUTPUT = 64  # tokens; an answer shorter than this helps nobody
BY_OUTPUT = frozenset({Metric.TOKENS, Metric.COST})
_PLAIN = frozenset({Metric.REQUESTS, Metric.BYTES})
_PLAIN_OF_AI = _PLAIN | {Metric.CREDITS}  # one each
_ONE_REQUEST = Amounts(requests=1, credits=1)


class WorstCase(NamedTuple):
    """By candidate: tokens, what it costs us and what the tenant is charged, in µUSD, and units."""

    tokens: Sequence[int] = ()
    costs: Sequence[int] = ()
    charges: Sequence[int] = ()
    units: Sequence[int] = ()

    def amounts(self, size: int) -> Amounts:
        """Of the call, whoever serves it; `size` is the request's bytes."""
        return Amounts(
            1,
            max(self.tokens, default=0),
            max(self.charges, default=0),
            max(self.units, default=1),
            size,
        )

    def amounts_of_all(self, size: int, count: int) -> Amounts:
        """Of a call that all `count` candidates answer."""
        return Amounts(1, sum(self.tokens), sum(self.charges), sum(self.units) or count, size)

    def amounts_at(self, place: int) -> Amounts:
        """Of one try at one candidate's provider."""
        if not self.tokens:
            return _ONE_REQUEST
        return Amounts(1, self.tokens[place], self.costs[place], self.units[place])


class Pricing(Protocol):
    """What the most of a usage costs (billing.book.PriceBook)."""

    def worst(
        self, provider: str, model: str, operation: str, usage: Usage, at: float
    ) -> int | None: ...


def limit_output(call: Call, plan: Plan) -> int:
    """Give a chat call that sets no limit to its output the least that any candidate's model
    may answer with; 0 where it has set one, or needs none."""
    if call.operation != CHAT or any([call.params.get(name) for name in OUTPUT_LIMITS]):
        return 0
    limit = min([each.upstream.max_output or DEFAULT_MAX_OUTPUT for each in plan.candidates])
    set_output_limit(call, limit)
    return limit


def set_output_limit(call: Call, tokens: int) -> None:
    call.params["max_tokens"] = tokens
    call.body = b""  # no longer what the client sent


def less_output(refusal: Problem | None, worst: WorstCase, limit: int) -> int:
    """How much output would fit where the limit that we set ourselves does not; 0 where it
    fits, or where hardly any would."""
    if not limit or not isinstance(refusal, QuotaExceeded):
        return 0
    left = refusal.extra["limit"] - refusal.extra["used"]
    needed = worst.amounts(0)[Amounts._fields.index(refusal.extra["metric"])]
    if left >= needed:
        return 0  # it is not for the amount that it was refused
    less = limit // 2 if refusal.extra["metric"] == Metric.COST else limit - (needed - left)
    return less if less >= LEAST_OUTPUT else 0


def worst_case(
    call: Call,
    plan: Plan,
    metrics: frozenset[Metric],
    pricing: Pricing,
    *,
    size: int,
    at: float,
    markup: int,
) -> WorstCase:
    """What each candidate can use at worst, as far as any of `metrics` counts it. `size` is the
    request's in bytes, `at` unix seconds. Raises PriceUnknown."""
    if metrics <= (_PLAIN_OF_AI if call.operation in TOKENS_ARE_COUNTED else _PLAIN):
        return _NOTHING_COUNTED
    tokens, costs, charges, units = [], [], [], []
    for candidate in plan.candidates:
        usage = _usage(call, candidate, size)
        cost = _cost(candidate, plan, usage, pricing, at) if Metric.COST in metrics else 0
        tokens.append(usage.input_tokens + usage.output_tokens)
        costs.append(cost)
        charges.append(marked_up(cost, markup))
        units.append(usage.units or 1)
    return WorstCase(tokens, costs, charges, units)


_NOTHING_COUNTED = WorstCase()


def _usage(call: Call, candidate: Candidate, size: int) -> Usage:
    told = candidate.target.provider.adapter.estimate(call, candidate.upstream)
    if call.operation not in TOKENS_ARE_COUNTED:
        return told
    return Usage(max(told.input_tokens, size), told.output_tokens, estimated=True)


def _cost(candidate: Candidate, plan: Plan, usage: Usage, pricing: Pricing, at: float) -> int:
    upstream = candidate.upstream
    cost = pricing.worst(upstream.provider, upstream.model, plan.route.operation, usage, at)
    if cost is None:
        raise PriceUnknown(
            f"A money quota applies, and {candidate.target.name} has no price. Staff set one, "
            "or a default price for the provider."
        )
    return cost
