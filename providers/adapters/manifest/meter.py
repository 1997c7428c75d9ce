"""One whole answer of a data provider, taken apart into canonical records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.adapter import StreamFault
from providers.adapters.manifest.definition import Manifest, ManifestOperation
from providers.adapters.manifest.errors import Reply, cleaned, first_match
from providers.adapters.manifest.mapping import EXTRA, MappingError, canonical, extras
from providers.adapters.manifest.paging import Page, Position
from providers.adapters.manifest.transforms import TransformError
from providers.adapters.manifest.transforms.base import kind_of
from providers.adapters.manifest.transforms.numeric import MOST_EXACT
from providers.call import Answer, Call, Outcome, Usage, Verdict
from providers.operations.checking import faults

NOTHING_FOUND = frozenset({Verdict.EMPTY, Verdict.NOT_FOUND})


@dataclass(slots=True)
class RecordMeter:
    """Takes one whole answer apart. Data answers are never streamed."""

    manifest: Manifest
    plan: ManifestOperation
    call: Call
    usage: Usage | None = None
    sent: int = 1  # requests that it took
    given: Mapping[str, Any] = field(default_factory=dict)
    output_characters: int = 0
    complete: bool = False

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        """Raises StreamFault: BAD_PAYLOAD for a document that does not map, NOT_FOUND where a
        single record was asked for and there is none, or what the operation's rules say."""
        self.usage = Usage(units=self.plan.units or self.sent)
        reply = Reply(outcome.status, {}, outcome.document)
        verdict = self._verdict(outcome, reply)
        answer = self.nothing(outcome) if verdict in NOTHING_FOUND else self._answer(outcome)
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
        if rule and verdict is not Verdict.OK and verdict not in NOTHING_FOUND:
            raise StreamFault(Outcome(verdict, outcome.status, rule.words(reply), rule.wait(reply)))
        return verdict

    def nothing(self, outcome: Outcome) -> Answer:
        if not self.plan.operation.is_list:
            raise StreamFault(Outcome(Verdict.NOT_FOUND, outcome.status, outcome.message))
        return self._wrapped([], total=0)

    def _answer(self, outcome: Outcome) -> Answer:
        document = outcome.document
        try:
            found = document
            if self.plan.records:
                found = self.plan.records.read(document, document, self.params)
            if self.plan.operation.is_list:
                return self._list(found, document)
            return self._single(found, outcome)
        except (MappingError, TransformError) as error:
            raise bad_payload(outcome, str(error)) from None

    def _single(self, record: Any, outcome: Outcome) -> Answer:
        item = self._mapped(record, outcome.document)
        needed = self.plan.not_found_without
        if needed and needed not in item:
            verdict = Verdict.BLOCKED if self.plan.narrow else Verdict.NOT_FOUND
            raise StreamFault(Outcome(verdict, outcome.status))
        return self._wrapped(self._checked(item, record, outcome.document))

    def _list(self, records: Any, document: Any) -> Answer:
        if not isinstance(records, list):
            raise MappingError(f"a list expected where {kind_of(records)} is")
        position = self._position()
        limit, skip = self.limit, position.skip if position else 0
        items: list[dict[str, Any]] = []
        used, why = 0, ""
        for record in records[skip:] if skip else records:
            if len(items) == limit:
                break
            used += 1
            try:
                item = self._mapped(record, document)
                items.append(self._checked(item, record, document))
            except MappingError as error:
                if not self.plan.skip_incomplete:
                    raise
                why = str(error)
        if records and not items:
            raise MappingError(f"no record is complete: {why}" if why else "no record is left")
        total = self._total(document)
        answer = self._wrapped(items, total=total)
        if position and answer.page and self.plan.paging:
            page = Page(len(records), used, total)
            following = self.plan.paging.following(position, page, document, self.params)
            answer.page["next_cursor"] = following
        return answer

    def _position(self) -> Position | None:
        paging = self.plan.paging
        usual = self.plan.operation.usual_items
        return paging.position(self.call.params, usual) if paging else None

    def _mapped(self, record: Any, document: Any) -> dict[str, Any]:
        if not isinstance(record, dict):
            raise MappingError(f"an object expected where {kind_of(record)} is")
        return canonical(self.plan.fields, record, document, self.params)

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
            item[EXTRA] = extras(self.plan.extras, record, document, self.params)
        return item

    @property
    def params(self) -> Mapping[str, Any]:
        """The call's own, and what earlier steps gave."""
        return {**self.call.params, **self.given} if self.given else self.call.params

    @property
    def limit(self) -> int:
        """Items at most: what the call says, and no more than the provider can be told."""
        if position := self._position():
            return position.limit
        limit = self.call.params.get("limit")
        return limit if isinstance(limit, int) else self.plan.operation.usual_items

    def _total(self, document: Any) -> int | None:
        if self.plan.total is None:
            return None
        total = self.plan.total.read(document, document, self.params)
        return total if type(total) is int and 0 <= total <= MOST_EXACT else None

    def _wrapped(self, data: Any, *, total: int | None = None) -> Answer:
        operation = self.plan.operation
        page = {"total": total, "limit": self.limit, "next_cursor": None}
        return Answer(
            data=data,
            page=page if operation.is_list else None,
            as_of=data.get(operation.as_of) if operation.as_of else None,
            attribution=[dict(credit) for credit in self.manifest.attribution],
        )


def bad_payload(outcome: Outcome, words: str) -> StreamFault:
    """The answer is not of the shape that the manifest tells."""
    return StreamFault(Outcome(Verdict.BAD_PAYLOAD, outcome.status, cleaned(words)))
