"""An operation that takes several requests: each is made from what the ones before it gave.

At most two steps lead to the operation's own request, which may fan out over a list. Nothing here
sends anything: `whole` says what to ask next, and the gateway comes back with the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from lib.problems import InvalidRequest
from providers.adapter import StreamFault
from providers.adapters.manifest.definition import EarlierStep
from providers.adapters.manifest.mapping import MappingError
from providers.adapters.manifest.meter import NOTHING_FOUND, RecordMeter, bad_payload
from providers.adapters.manifest.request import RequestTemplate, below
from providers.adapters.manifest.transforms import TransformError
from providers.call import Answer, Further, Outcome, UpstreamRequest, Usage, Verdict

EACH: Final = "each"
_AS_SENT = (str, int, float)


@dataclass(slots=True)
class SteppedMeter:
    """`built` makes a request of a template; `bases` are the URLs below which a link may lead."""

    built: Callable[..., UpstreamRequest]
    records: RecordMeter
    bases: tuple[str, ...]
    usage: Usage | None = None
    output_characters: int = 0
    complete: bool = False

    def whole(self, outcome: Outcome, body: bytes) -> Answer | Further:
        """Raises StreamFault as RecordMeter's does, or where a step's answer has not what the
        next request needs."""
        return self.after(0, [outcome])

    def feed(self, chunk: bytes) -> list[bytes]:
        return []

    def close(self) -> list[bytes]:
        return []

    def after(self, place: int, outcomes: Sequence[Outcome]) -> Answer | Further:
        """What comes after an earlier step."""
        (outcome,), plan = outcomes, self.records.plan
        if not outcome.is_answer:
            raise StreamFault(outcome)
        given = None
        if outcome.verdict not in NOTHING_FOUND:
            given = self.given_by(plan.earlier[place], outcome)
        if given is None:
            return self._nothing(outcome)
        self.records.given = {**self.records.given, **given}
        later = place + 1
        if later < len(plan.earlier):
            step = plan.earlier[later]
            request = self._request(step.request, self.records.params, outcome, rules=step.rules)
            return self._further([request], partial(self.after, later))
        if plan.each is None:
            request = self._request(plan.request, self.records.params, outcome)
            return self._further([request], self._last)
        return self._fan_out(given_list(self.records.given[plan.each.of], outcome), outcome)

    def _fan_out(self, values: Sequence[Any], outcome: Outcome) -> Answer | Further:
        plan, params = self.records.plan, self.records.params
        most = min(plan.each.most if plan.each else 0, self.records.limit)
        requests = [
            self._request(plan.request, {**params, EACH: value}, outcome) for value in values[:most]
        ]
        return self._further(requests, self._each) if requests else self._nothing(outcome)

    def _last(self, outcomes: Sequence[Outcome]) -> Answer:
        if not outcomes[0].is_answer:
            raise StreamFault(outcomes[0])
        return self._answer(outcomes[0])

    def _each(self, outcomes: Sequence[Outcome]) -> Answer:
        """Those that failed are left out; only where nothing else is left is that a failure."""
        found = [outcome.document for outcome in outcomes if outcome.verdict is Verdict.OK]
        failed = next((outcome for outcome in outcomes if not outcome.is_answer), None)
        if failed and not found:
            raise StreamFault(failed)
        return self._answer(Outcome(Verdict.OK, 200, document=found))

    def _answer(self, outcome: Outcome) -> Answer:
        answer = self.records.whole(outcome, b"")
        self.usage, self.complete = self.records.usage, True
        return answer

    def _nothing(self, outcome: Outcome) -> Answer:
        answer = self.records.nothing(outcome)
        self.usage = Usage(units=self.records.plan.units or self.records.sent)
        self.complete = True
        return answer

    def _further(
        self,
        requests: Sequence[UpstreamRequest],
        then: Callable[[Sequence[Outcome]], Answer | Further],
    ) -> Further:
        self.records.sent += len(requests)
        return Further(requests, then)

    def given_by(self, step: EarlierStep, outcome: Outcome) -> dict[str, Any] | None:
        """What the step hands on; None where it found nothing."""
        document, given = outcome.document, {}
        for name, source in step.gives.items():
            try:
                given[name] = source.read(document, document, self.records.params)
            except (TransformError, MappingError) as error:
                raise bad_payload(outcome, f"{name}: {error}") from None
        return None if any(value is None for value in given.values()) else given

    def _request(
        self,
        template: RequestTemplate,
        params: Mapping[str, Any],
        outcome: Outcome,
        **judged: Any,
    ) -> UpstreamRequest:
        """Raises StreamFault for what the provider gave and no request can be made of."""
        for name in template.params & params.keys():
            if "." in name and not isinstance(params[name], _AS_SENT):
                raise bad_payload(outcome, f"{name}: a text or a number expected")
        if template.link:
            params = {**params, template.link: self._linked(str(params[template.link]), outcome)}
        try:
            return self.built(template, params, **judged)
        except InvalidRequest:
            raise bad_payload(outcome, "a step gave what no request can be made of") from None

    def _linked(self, url: str, outcome: Outcome) -> str:
        """What of it comes after the base URL: the rest is the provider row's to say."""
        found = (below(base, url) for base in self.bases)
        path = next((path for path in found if path is not None), None)
        if path is None:
            raise bad_payload(outcome, "the answer's link leads to another place")
        return path


def given_list(values: Any, outcome: Outcome) -> list[Any]:
    """Raises StreamFault for what is no list of texts and numbers."""
    if not isinstance(values, list) or not all(isinstance(value, _AS_SENT) for value in values):
        raise bad_payload(outcome, "a step gave no list to fan out over")
    return values
