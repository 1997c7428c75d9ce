"""A route's checks on an answer, before the client has a byte of it.

Whole answers are there anyway. A stream is held back until it came to its end, and told in one
go: what was sent cannot be taken back, and a failed check must never reach the client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from providers.adapter import Meter, StreamFault
from providers.answer_checks import Checks
from providers.call import Answer, Outcome, Verdict

MOST_HELD = 32 * 1024 * 1024  # bytes of a stream: as much as a whole answer may have


def check_whole(checks: Checks, answer: Answer) -> None:
    """Raises StreamFault for an answer that the checks refuse."""
    if answer.body:
        _check_all(checks, _said(orjson.loads(answer.body)["choices"], "message"))
    else:
        _refuse(checks.of_data(answer.data))


async def check_stream(
    checks: Checks, meter: Meter, chunks: AsyncIterator[bytes] | None, events: list[bytes]
) -> None:
    """Adds to `events` all that are still to come. Raises StreamFault for a stream that is cut,
    and for one that the checks refuse, and what `chunks` raises."""
    size = sum(map(len, events))
    if chunks is not None and not meter.complete:
        async for chunk in chunks:
            said = meter.feed(chunk)
            events += said
            size += sum(map(len, said))
            if size > MOST_HELD:
                raise StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, "the stream is too long"))
            if meter.complete:
                break
    if not meter.complete:
        raise StreamFault(Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before its end"))
    _check_all(checks, _said(_choices_in(events), "delta"))


@dataclass(slots=True)
class _Said:
    """What one choice says. `otherwise`: by calling a tool or refusing, which need no text of
    the form that is asked for; what stands beside may still be forbidden."""

    parts: list[str] = field(default_factory=list)
    otherwise: bool = False
    filtered: bool = False

    def add(self, message: Mapping[str, Any], finish: Any) -> None:
        """A whole message, or a stream's next delta."""
        texts = (message.get("content"), message.get("refusal"))
        self.parts += [text for text in texts if isinstance(text, str)]
        self.otherwise |= any(map(message.get, ("refusal", "tool_calls", "function_call")))
        self.filtered |= finish == "content_filter"

    def fault(self, checks: Checks) -> str | None:
        text = "".join(self.parts)
        if self.otherwise or (self.filtered and not text):
            return checks.of_words(text)
        return checks.of_text(text)


def _said(choices: Iterable[Mapping[str, Any]], part: str) -> list[_Said]:
    """What each choice says, by its `part`: message or delta."""
    said: dict[Any, _Said] = {}
    for choice in choices:
        known = said.setdefault(choice.get("index", 0), _Said())
        known.add(choice.get(part) or {}, choice.get("finish_reason"))
    return list(said.values()) or [_Said()]


def _choices_in(events: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in b"".join(events).splitlines():
        if line.startswith(b"data: {"):
            yield from orjson.loads(line[6:]).get("choices") or ()


def _check_all(checks: Checks, said: Iterable[_Said]) -> None:
    for each in said:
        _refuse(each.fault(checks))


def _refuse(fault: str | None) -> None:
    if fault is not None:
        words = f"The provider's answer failed a check of this route: {fault}."
        raise StreamFault(Outcome(Verdict.INVALID_ANSWER, 200, words))
