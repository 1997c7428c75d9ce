"""The admin's forms for providers and routes: a choice of what there is, and rules as fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget

from lib.rules import RulesField, RulesWidget, leaves
from providers import answer_checks, breaker_policy, cache_rules, effective, soundness, timeouts
from providers.dialects import ADAPTERS
from providers.operations import Kind, registry
from providers.resilience import RETRY_SCHEMA, Resilience
from tenants.limits import ItemFault

HELD = "Empty: what is shown in its place."
WHOLE = "provider"  # the part of a breaker's rules that is of the provider's own
_TIMEOUTS = {
    "connect_ms": "Connect, ms",
    "first_byte_ms": "First byte, ms",
    "idle_ms": "Between two chunks, ms",
    "total_ms": "All in all, ms",
}
_BREAKER = {
    "preset": "Preset",
    "consecutive_failures": "Failures in a row",
    "failure_rate_threshold": "Failures, %",
    "slow_call_rate_threshold": "Slow calls, %",
    "slow_call_seconds": "Slow after, s",
    "minimum_calls": "Rates from so many calls",
    "window/type": "Rates are of",
    "window/type:count": "the last calls",
    "window/type:time": "the last seconds",
    "window/calls": "How many calls",
    "window/seconds": "How many seconds",
    "open_seconds": "Stays open, s",
    "permitted_probes": "Probes at once",
}
_RETRY = {
    "max_attempts": "Tries at one target",
    "base_seconds": "Longest first wait, s",
    "max_seconds": "Longest wait, s",
    "budget_percent": "Retries, % of calls",
}
_CHECKS = {
    "json": "Is JSON",
    "schema": "JSON Schema that it fits",
    "forbidden": "Forbidden patterns, one a line",
}
_CACHE = {
    "ttl": "Fresh for, s",
    "min_ttl": "At least, s",
    "max_ttl": "At most, s",
    "stale_while_revalidate": "Stale while renewed, s",
    "stale_if_error": "Stale on failure, s",
    "semantic/route": "Semantic: embeddings route",
    "semantic/threshold": "Semantic: least likeness",
    "semantic/verify": "Semantic: share verified",
}


_SAID = {
    "strategy": "Who is first: the top target (priority), each in turn by its weight, the "
    "quickest, the cheapest, the best, or who is likeliest to answer (adaptive). See "
    "docs/operate/routing.md.",
    "rescue": "What becomes of a stream that breaks off: an error, the next target from the "
    "beginning (restart), or the next target from there on (continue).",
}


def _timeouts(text: str) -> RulesField:
    check = soundness.validate_timeouts
    return RulesField(schema=timeouts.SCHEMA, labels=_TIMEOUTS, check=check, help_text=text)


def _parsed(parse: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Raises ItemFault."""

    def check(value: Any) -> None:
        try:
            parse(value)
        except (answer_checks.CheckFault, cache_rules.CacheFault) as fault:
            raise ItemFault(fault.path, fault.text, "rules") from None

    return check


class RulesForm(forms.ModelForm):  # type: ignore[type-arg]
    def show(self, name: str, holds: Mapping[str, Any]) -> None:
        """What counts where a field of rules says nothing. Who may only look has no fields."""
        if name in self.fields and isinstance(widget := self.fields[name].widget, RulesWidget):
            widget.holds = dict(leaves(holds))


class ProviderForm(RulesForm):
    adapter = forms.ChoiceField(
        choices=[("", "–"), *((name, name) for name in ADAPTERS)],
        widget=UnfoldAdminSelectWidget,
        help_text="Which dialect it speaks. `manifest`: what its definition says, which makes the "
        "provider when it is activated.",
    )
    timeouts = _timeouts(HELD)
    breaker = RulesField(
        schema=breaker_policy.SCHEMA,
        labels=_BREAKER,
        check=soundness.validate_breaker,
        parts={WHOLE: "The provider as a whole, where it differs"},
        help_text=f"When it is left alone. {HELD} See docs/operate/resilience.md.",
    )
    retry = RulesField(
        schema=RETRY_SCHEMA,
        labels=_RETRY,
        check=soundness.validate_retry,
        help_text=f"How often it is asked again. {HELD}",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.show("timeouts", timeouts.Timeouts().as_json())
        known = effective.of_provider(self.instance) if self.instance.pk else effective.of_house()
        self.show("breaker", _breaker(known))
        self.show("retry", known.as_json()["retry"])


def _breaker(known: Resilience) -> dict[str, Any]:
    return known.breaker.target.as_json() | {WHOLE: known.breaker.provider.as_json()}


def operations(unsaid: str = "–") -> Iterator[tuple[str, Any]]:
    """As choices; those of models first, for most routes are theirs."""
    yield "", unsaid
    groups: dict[str, list[tuple[str, str]]] = {}
    for operation in sorted(registry().values(), key=lambda each: each.name):
        label = operation.category if operation.kind is Kind.DATA else "models"
        groups.setdefault(label, []).append((operation.name, operation.name))
    yield "models", groups.pop("models", [])
    yield from sorted(groups.items())


class RouteForm(RulesForm):
    operation = forms.ChoiceField(choices=operations, widget=UnfoldAdminSelectWidget)
    checks = RulesField(
        schema=answer_checks.SCHEMA,
        labels=_CHECKS,
        check=_parsed(answer_checks.parse),
        help_text="What an answer must be, or the next target is asked.",
    )
    cache = RulesField(
        schema=cache_rules.SCHEMA,
        labels=_CACHE,
        check=_parsed(cache_rules.parse),
        help_text=f"How long answers are kept; fresh for 0 keeps nothing. {HELD}",
    )
    timeouts = _timeouts("Empty: each provider's own.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        operation = registry().get(self.instance.operation)
        self.show("cache", operation.cache if operation else {})
        for name in _SAID.keys() & self.fields.keys():
            self.fields[name].help_text = _SAID[name]


class WarmForm(forms.ModelForm):  # type: ignore[type-arg]
    operation = forms.ChoiceField(choices=operations, widget=UnfoldAdminSelectWidget)
