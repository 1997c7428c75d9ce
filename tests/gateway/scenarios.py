"""The ways providers fail, as a table: what each may do to a call, with and without a fallback.

A scenario's provider, of the same name, is sick by the sandbox's faults or by where it is;
`well` never is. Each scenario has a route to the sick one alone, one that falls back, and one
that rescues its streams besides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.words import CUT, OK

Words = frozenset[str]
FINE: Words = frozenset({OK})
DOWN: Words = frozenset({"provider_unavailable"})
NONSENSE: Words = frozenset({"upstream_rejected"})
LATE: Words = frozenset({"upstream_timeout"})
# A retry may meet the deadline, a breaker that opened meanwhile, or another failure after this.
_ALSO: Words = frozenset({"deadline_exceeded", "circuit_open", "provider_unavailable"})
BEGUN: Words = frozenset({CUT})


@dataclass(frozen=True)
class Scenario:
    """`whole` and `streamed` say how a call may end that has nobody to fall back to. A stream
    that had begun is cut, whoever might take over, unless its route rescues it."""

    name: str
    fault: dict[str, Any] = field(default_factory=dict)
    whole: Words = DOWN
    streamed: Words | None = None  # unless said, as whole ones
    place: str = "{sandbox}/NAME/v1"
    second: str = "well"
    calls: int = 2  # of each kind
    rests: bool = False  # with breakers as they come; else they never open

    @property
    def providers(self) -> tuple[str, str]:
        return self.name, self.second

    @property
    def begins(self) -> bool:
        """Whether its streams have a first event."""
        return self.streamed == BEGUN

    def allowed(self, route: str, *, stream: bool) -> Words:
        """How a call may end."""
        is_helped = route != "alone" and self.second == "well"
        if stream and self.begins and route != "rescued":
            # On a busy machine the first event and the fault may come as one: nothing has begun.
            return BEGUN | FINE if is_helped else BEGUN
        if is_helped:
            return FINE
        words = self.streamed if stream and self.streamed is not None else self.whole
        return words if words == FINE else words | _ALSO


# So that the first event is read before the fault: what fails with it is never begun.
_PACED = {"pace_ms": 50}
BOMB = {"gzip_bomb": "50MB"}


def _cut(how: str) -> Scenario:
    return Scenario(f"cut-{how}", {**_PACED, "cut_after": 3, "cut": how}, streamed=BEGUN)


def _down(name: str, other: str) -> Scenario:
    return Scenario(name, {"status": 503}, second=other)


def _unsteady(name: str, how: dict[str, Any], calls: int) -> Scenario:
    return Scenario(name, {"status": 500, **how}, FINE | DOWN, calls=calls, rests=True)


SCENARIOS = [
    Scenario("status-500", {"status": 500}),
    Scenario("status-503", {"status": 503}),
    Scenario("throttled-briefly", {"status": 429, "retry_after": 1}),
    Scenario("throttled-once", {"status": 429, "retry_after": 1, "times": 1}, FINE | DOWN),
    Scenario("throttled-for-long", {"status": 429, "retry_after": 3600}),
    Scenario("refused", place="http://127.0.0.1:{refused}/v1"),
    Scenario("black-hole", place="http://127.0.0.1:{black_hole}/v1"),
    Scenario("slow-headers", {"slow_headers": 2000}, LATE),
    Scenario("silent", {"no_first_byte": True}, LATE),
    Scenario("late", {"delay_ms": 2000}, LATE),
    Scenario("stalled-at-once", {"stall_after": 0}, LATE),
    Scenario("stalled", {**_PACED, "stall_after": 3}, LATE, BEGUN),
    Scenario("cut-at-once", {"cut_after": 0}),
    Scenario("reset-at-once", {"cut_after": 0, "cut": "reset"}),
    _cut("close"),
    _cut("reset"),
    _cut("mid"),
    _cut("clean"),
    Scenario("garbage-at-once", {"malformed_sse": 0, "malformed_json": True}, NONSENSE),
    Scenario("garbage", {**_PACED, "malformed_sse": 3, "malformed_json": True}, NONSENSE, BEGUN),
    Scenario("error-event-first", {"error_event": 0}, FINE, DOWN),
    Scenario("error-event", {**_PACED, "error_event": 3}, FINE, BEGUN),
    Scenario("html", {"html": True}, NONSENSE),
    Scenario("wrong-content-type", {"wrong_content_type": "text/html"}, FINE, NONSENSE),
    Scenario("truncated-json", {"truncated_json": True}, NONSENSE, FINE),
    Scenario("empty-body", {"empty_body": True}, NONSENSE),
    Scenario("gzip-bomb", BOMB, NONSENSE),
    _down("all-down", "all-down-too"),
    _down("all-down-too", "all-down"),
    _unsteady("flapping", {"flap": 3}, calls=8),
    _unsteady("brownout", {"probability": 0.5, "seed": 1}, calls=10),
]

CONFIGURATION = """
providers:
{providers}
routes:
{routes}
plans: [{{slug: unlimited, rate_limits: []}}]
tenants:
  - slug: acme
    plan: unlimited
    projects: [{{slug: default}}]
    keys: [{{name: live, mode: live, scopes: ["*"]}}]
    quotas:
      - {{scope: tenant, metric: requests, window: day, limit: 1000000}}
      - {{scope: tenant, metric: tokens, window: day, limit: 1000000000}}
      - {{scope: tenant, metric: cost, window: month, limit_usd: "10000"}}
"""
_PROVIDER = """
  - slug: {slug}
    adapter: openai
    base_url: "{place}"
    allow_private_network: true
    credentials: [{{name: main, secret: sk-lab-0123456789}}]
    breaker: {breaker}
    models: [{{id: gpt-x, context: 128000, max_output: 4096,
              input_usd_per_million: "1", output_usd_per_million: "2"}}]
"""
_ROUTE = """
  - alias: {slug}-{name}
    operation: chat.completions
    targets: [{targets}]
    timeouts: {timeouts}
    rescue: {rescue}
"""
_NEVER_OPENS = (
    "{consecutive_failures: 10000, minimum_calls: 10000, window: {type: time, seconds: 1}}"
)


def configuration(timeouts: str, **places: int) -> str:
    """All scenarios' providers and routes; `places` are ports that no sandbox listens on."""
    providers = [_provider("well", "{sandbox}/well/v1", rests=False)]
    providers += [
        _provider(each.name, each.place.replace("NAME", each.name), rests=each.rests)
        for each in SCENARIOS
    ]
    text = CONFIGURATION.format(
        providers="".join(providers), routes="".join(_routes(each, timeouts) for each in SCENARIOS)
    )
    for name, port in places.items():
        text = text.replace(f"{{{name}}}", str(port))
    return text


def _provider(slug: str, place: str, *, rests: bool) -> str:
    return _PROVIDER.format(slug=slug, place=place, breaker="{}" if rests else _NEVER_OPENS)


def _routes(scenario: Scenario, timeouts: str) -> str:
    sick, second = (f"{{provider: {slug}, model: gpt-x}}" for slug in scenario.providers)
    both = f"{sick}, {second}"
    routes = [("alone", sick, "none"), ("pair", both, "none"), ("rescued", both, "restart")]
    return "".join(
        _ROUTE.format(
            slug=scenario.name, name=name, targets=targets, timeouts=timeouts, rescue=rescue
        )
        for name, targets, rescue in routes
    )
