"""The five verbs for a provider that is data: one instance for each manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from lib.problems import NotFound, Problem, Unavailable, UpstreamRejected, UpstreamTimeout
from providers.adapter import StreamFault, Unsupported
from providers.adapters.manifest.definition import Manifest, ManifestOperation
from providers.adapters.manifest.errors import Reply, by_http, cleaned, first_match, header_wait
from providers.adapters.manifest.mapping import EXTRA, MappingError, canonical, extras
from providers.adapters.manifest.request import build
from providers.adapters.manifest.transforms import TransformError
from providers.call import Answer, Call, Outcome, Upstream, UpstreamRequest, Usage, Verdict
from providers.operations.checking import faults

DEFAULT_LIMIT = 10
_NOTHING_FOUND = frozenset({Verdict.EMPTY, Verdict.NOT_FOUND})


class ManifestAdapter:
    """Speaks one provider's dialect as its manifest writes it."""

    name = "manifest"
    dated = False

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.secret_form = manifest.auth.secret_form
        self.grant = manifest.auth.grant

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return Usage(units=self._plan(call).units)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported for an operation or a parameter the provider does not know.

        The provider row's `settings.headers` come last, so that staff can say who calls.
        """
        request = build(self._plan(call).request, self.manifest.auth, call, upstream)
        own = {name.lower(): value for name, value in upstream.settings.get("headers", {}).items()}
        headers = {**self.manifest.headers, **own, **request.headers}
        return UpstreamRequest(request.method, request.url, headers)

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        reply = Reply(status, headers, _parsed(body))
        rule = first_match(self.manifest.rules, reply)
        verdict = rule.verdict if rule else by_http(reply)
        if verdict is Verdict.OK and reply.document is None:
            verdict = Verdict.BAD_PAYLOAD
        return Outcome(
            verdict,
            status=status,
            message=rule.words(reply) if rule else "",
            retry_after=rule.wait(reply) if rule else header_wait(headers),
            document=reply.document,
        )

    def meter(self, call: Call, upstream: Upstream) -> RecordMeter:
        return RecordMeter(self.manifest, self._plan(call), call)

    def problem(self, outcome: Outcome) -> Problem:
        return _problem(outcome, self.manifest.name)

    def _plan(self, call: Call) -> ManifestOperation:
        plan = self.manifest.operations.get(call.operation)
        if plan is None:
            raise Unsupported("provider", f"{self.manifest.name} does not serve {call.operation}.")
        return plan


@dataclass(slots=True)
class RecordMeter:
    """Takes one whole answer apart. Data answers are never streamed."""

    manifest: Manifest
    plan: ManifestOperation
    call: Call
    usage: Usage | None = None
    output_characters: int = 0
    complete: bool = False

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        """Raises StreamFault: BAD_PAYLOAD for a document that does not map, NOT_FOUND where a
        single record was asked for and there is none, or what the operation's rules say."""
        self.usage = Usage(units=self.plan.units)
        reply = Reply(outcome.status, {}, outcome.document)
        verdict = self._verdict(outcome, reply)
        answer = self._nothing(outcome) if verdict in _NOTHING_FOUND else self._answer(outcome)
        self.complete = True
        return answer

    def feed(self, chunk: bytes) -> list[bytes]:
        """Nothing: there is no streamed form."""
        return []

    def close(self) -> list[bytes]:
        return []

    def _verdict(self, outcome: Outcome, reply: Reply) -> Verdict:
        rule = first_match(self.plan.rules, reply)
        verdict = rule.verdict if rule else outcome.verdict
        if rule and verdict is not Verdict.OK and verdict not in _NOTHING_FOUND:
            raise StreamFault(Outcome(verdict, outcome.status, rule.words(reply), rule.wait(reply)))
        return verdict

    def _nothing(self, outcome: Outcome) -> Answer:
        if not self.plan.operation.is_list:
            raise StreamFault(Outcome(Verdict.NOT_FOUND, outcome.status, outcome.message))
        return self._wrapped([], total=0)

    def _answer(self, outcome: Outcome) -> Answer:
        document = outcome.document
        found = self.plan.records.search(document) if self.plan.records else document
        try:
            if self.plan.operation.is_list:
                return self._list(found, document)
            return self._single(found, outcome)
        except (MappingError, TransformError) as error:
            self._bad_payload(outcome, str(error))

    def _single(self, record: Any, outcome: Outcome) -> Answer:
        item = self._mapped(record, outcome.document)
        needed = self.plan.not_found_without
        if needed and needed not in item:
            raise StreamFault(Outcome(Verdict.NOT_FOUND, outcome.status))
        return self._wrapped(self._checked(item, record, outcome.document))

    def _list(self, records: Any, document: Any) -> Answer:
        if not isinstance(records, list):
            raise MappingError(f"a list expected where a {type(records).__name__} is")
        limit = self._limit
        items: list[dict[str, Any]] = []
        for record in records:
            if len(items) == limit:
                break
            try:
                item = self._mapped(record, document)
                items.append(self._checked(item, record, document))
            except MappingError:
                if not self.plan.skip_incomplete:
                    raise
        if records and not items:
            raise MappingError("no record is complete")
        return self._wrapped(items, total=self._total(document))

    def _mapped(self, record: Any, document: Any) -> dict[str, Any]:
        if not isinstance(record, dict):
            raise MappingError(f"an object expected where a {type(record).__name__} is")
        return canonical(self.plan.fields, record, document, self.call.params)

    def _checked(self, item: dict[str, Any], record: Any, document: Any) -> dict[str, Any]:
        """The item, if the operation's schema takes it, with the extras that were asked for."""
        operation = self.plan.operation
        if not operation.takes(item):
            where = {
                str(step)
                for _, place in faults(operation.response_validator, item)
                for step in place[:1]
            }
            raise MappingError(f"no canonical answer: {', '.join(sorted(where))}")
        if self.call.include_extra:
            item[EXTRA] = extras(self.plan.extras, record, document, self.call.params)
        return item

    @property
    def _limit(self) -> int:
        limit = self.call.params.get("limit")
        return limit if isinstance(limit, int) else DEFAULT_LIMIT

    def _total(self, document: Any) -> int | None:
        if self.plan.total is None:
            return None
        total = self.plan.total.read(document, document, self.call.params)
        return total if isinstance(total, int) and total >= 0 else None

    def _wrapped(self, data: Any, *, total: int | None = None) -> Answer:
        operation = self.plan.operation
        page = {"total": total, "limit": self._limit, "next_cursor": None}
        return Answer(
            data=data,
            page=page if operation.is_list else None,
            as_of=data.get(operation.as_of) if operation.as_of else None,
            attribution=[dict(credit) for credit in self.manifest.attribution],
        )

    def _bad_payload(self, outcome: Outcome, words: str) -> NoReturn:
        raise StreamFault(Outcome(Verdict.BAD_PAYLOAD, outcome.status, cleaned(words)))


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


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
