"""The five verbs for a provider that is data: one instance for each manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lib.problems import NotFound, Problem, Unavailable, UpstreamRejected, UpstreamTimeout
from providers.adapter import Unsupported
from providers.adapters.manifest import decoding
from providers.adapters.manifest.definition import Manifest, ManifestOperation
from providers.adapters.manifest.errors import Reply, Rule, by_http, first_match, header_wait
from providers.adapters.manifest.meter import RecordMeter
from providers.adapters.manifest.request import RequestTemplate, build, refuse_unsaid
from providers.adapters.manifest.stepping import SteppedMeter
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Usage, Verdict

_NOTHING = frozenset({b"", b"null"})


class ManifestAdapter:
    """Speaks one provider's dialect as its manifest writes it."""

    name = "manifest"
    dated = False

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.secret_form = manifest.auth.secret_form
        self.grant = manifest.auth.grant

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        plan = self._plan(call)
        return Usage(units=plan.units or plan.most_requests)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """The first one. Raises Unsupported for an operation, a parameter or a value of one that
        the provider does not know."""
        plan = self._plan(call)
        refuse_unsaid(plan.params, plan.only, call.params, upstream.provider)
        params = {**call.params, **plan.told(call.params)} if plan.paging else call.params
        if plan.earlier:
            first = plan.earlier[0]
            return self.built(first.request, params, upstream=upstream, rules=first.rules)
        return self.built(plan.request, params, upstream=upstream)

    def built(
        self,
        template: RequestTemplate,
        params: Mapping[str, Any],
        *,
        upstream: Upstream,
        rules: Sequence[Rule] | None = None,
    ) -> UpstreamRequest:
        """The provider row's `settings.headers` come last, so that staff can say who calls. With
        `rules` of its own, the request says how its answer is judged. Raises InvalidRequest."""
        request = build(template, self.manifest.auth, params, upstream)
        own = {name.lower(): value for name, value in upstream.settings.get("headers", {}).items()}
        headers = {**self.manifest.headers, **own, **request.headers}
        judge = None
        if rules is not None:
            judge = partial(self._judged, (*rules, *self.manifest.rules))
        return UpstreamRequest(request.method, request.url, headers, request.body, judge=judge)

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return self._judged(self.manifest.rules, status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> RecordMeter | SteppedMeter:
        plan = self._plan(call)
        records = RecordMeter(self.manifest, plan, call, given=plan.told(call.params))
        if not plan.earlier:
            return records
        return SteppedMeter(partial(self.built, upstream=upstream), records, self._bases(upstream))

    def problem(self, outcome: Outcome) -> Problem:
        return _problem(outcome, self.manifest.name)

    def _judged(
        self, rules: Sequence[Rule], status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        document = decoding.document(body, self.manifest.form)
        empty = document is None and body.strip() in _NOTHING
        reply = Reply(status, headers, document, empty)
        rule = first_match(rules, reply)
        verdict = rule.verdict if rule else by_http(reply)
        if verdict is Verdict.OK and document is None:
            verdict = Verdict.BAD_PAYLOAD
        return Outcome(
            verdict,
            status=status,
            message=rule.words(reply) if rule else "",
            retry_after=rule.wait(reply) if rule else header_wait(headers),
            document=document,
        )

    def _bases(self, upstream: Upstream) -> tuple[str, str]:
        """Where a link in an answer may lead: to the service itself, whatever stands before it."""
        return self.manifest.base_url, upstream.base_url

    def _plan(self, call: Call) -> ManifestOperation:
        plan = self.manifest.operations.get(call.operation)
        if plan is None:
            raise Unsupported("provider", f"{self.manifest.name} does not serve {call.operation}.")
        return plan


def _problem(outcome: Outcome, provider: str) -> Problem:
    wait = None if outcome.retry_after is None else -int(-outcome.retry_after // 1)
    match outcome.verdict:
        case Verdict.EMPTY | Verdict.NOT_FOUND:
            return NotFound(f"{provider} knows nothing that fits. Check the parameters.")
        case Verdict.INVALID_REQUEST:
            status = outcome.status if 400 <= outcome.status < 500 else 400
            return UpstreamRejected(_said(outcome, provider), status=status)
        case Verdict.RATE_LIMITED | Verdict.QUOTA_EXHAUSTED | Verdict.UNAVAILABLE:
            return Unavailable(retry_after=wait)
        case Verdict.TIMEOUT:
            return UpstreamTimeout()
        case Verdict.UNREACHABLE:
            return Unavailable()
    return UpstreamRejected()


def _said(outcome: Outcome, provider: str) -> str:
    return f"{provider} refused the request" + (f": {outcome.message}" if outcome.message else ".")
