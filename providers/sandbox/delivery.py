"""What goes over the wire for one call: the answer, spoilt as the fault says. Pure."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from providers.sandbox.dialects.dialect import Answer, Event
from providers.sandbox.faults import Cut, Fault

_CHUNK = 64 * 1024
_HTML = b"<!doctype html><html><head><title>Error</title></head><body><h1>Error</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Status, headers and the events or pieces of the body. `length` is told when it is known.

    After `pause_after` pieces the connection is cut or stalls, as the fault says. Not `is_whole`:
    the last events are missing, though HTTP will end well.
    """

    status: int
    headers: Mapping[str, str]
    parts: Iterable[Event]
    length: int | None = None
    is_stream: bool = False
    pause_after: int | None = None
    is_whole: bool = True


def deliver(answer: Answer, fault: Fault, error_event: bytes) -> Delivery:
    """The delivery of `answer` under `fault`; `error_event` is the provider's own."""
    answer = _renamed(_spoilt(answer, fault), fault)
    if fault.gzip_bomb:
        body = _bomb(fault.gzip_bomb)
        headers = {**answer.headers, "content-encoding": "gzip"}
        return _whole(replace(answer, body=body, headers=headers, events=None), fault)
    if answer.events is not None and not (fault.html or fault.empty_body):
        return _stream(answer, answer.events, fault, error_event)
    if fault.huge_body or fault.endless:
        parts = _huge(b'{"padding": "', fault.huge_body, b'"}', endless=fault.endless)
        return Delivery(answer.status, _headers(answer), parts, None)
    return _whole(answer, fault)


def _spoilt(answer: Answer, fault: Fault) -> Answer:
    half = len(answer.body) // 2
    if fault.html:
        return replace(answer, body=_HTML, content_type="text/html; charset=utf-8", events=None)
    if fault.empty_body:
        return replace(answer, body=b"")
    if fault.malformed_json:
        return replace(answer, body=answer.body[:half] + b"}} oops")
    if fault.truncated_json:
        return replace(answer, body=answer.body[:half])
    return answer


def _renamed(answer: Answer, fault: Fault) -> Answer:
    if answer.events is not None:
        answer = replace(answer, content_type=answer.stream_type)
    if fault.wrong_content_type:
        answer = replace(answer, content_type=fault.wrong_content_type)
    return answer


def _headers(answer: Answer) -> dict[str, str]:
    return {"content-type": answer.content_type, **answer.headers}


def _whole(answer: Answer, fault: Fault) -> Delivery:
    """All tokens count with the first byte: the answer was made before it was sent."""
    parts, pause = [Event(answer.body, answer.output_tokens)], None
    if fault.cut_after is not None or fault.stall_after is not None:
        half = len(answer.body) // 2
        parts = [Event(answer.body[:half], answer.output_tokens), Event(answer.body[half:])]
        pause = 1
    return Delivery(answer.status, _headers(answer), parts, len(answer.body), pause_after=pause)


def _stream(
    answer: Answer, events: tuple[Event, ...], fault: Fault, error_event: bytes
) -> Delivery:
    parts: Iterable[Event] = events
    if fault.huge_body:
        parts = [*events[:1], *_huge(b"data: ", fault.huge_body, b"\n\n"), *events[1:]]
    if fault.malformed_sse is not None:
        garbage = Event(b'data: {"broken": \n\n')
        parts = [*events[: fault.malformed_sse], garbage, *events[fault.malformed_sse + 1 :]]
    if fault.error_event is not None:
        parts = [*events[: fault.error_event], Event(error_event)]
    if fault.endless:
        parts = _forever(events)
    pause = fault.cut_after if fault.cut_after is not None else fault.stall_after
    is_whole = fault.cut is not Cut.CLEAN or pause is None or pause >= len(events)
    if fault.cut_after is not None and fault.cut is Cut.CLEAN:
        parts, pause = itertools.islice(parts, fault.cut_after), None
    headers = {**_headers(answer), "cache-control": "no-cache"}
    return Delivery(
        answer.status, headers, parts, is_stream=True, pause_after=pause, is_whole=is_whole
    )


def _forever(events: tuple[Event, ...]) -> Iterator[Event]:
    """The stream up to its last token, and then its tokens again and again."""
    telling = [index for index, event in enumerate(events) if event.tokens]
    yield from events[: telling[-1] + 1] if telling else events[:1]
    yield from itertools.cycle([events[index] for index in telling] or [Event(b": still here\n\n")])


def _huge(start: bytes, size: int, end: bytes, *, endless: bool = False) -> Iterator[Event]:
    filler = b"a" * _CHUNK
    yield Event(start)
    sent = 0
    while endless or sent < size:
        piece = filler if endless else filler[: size - sent]
        sent += len(piece)
        yield Event(piece)
    yield Event(end)


@lru_cache(maxsize=4)
def _bomb(size: int) -> bytes:
    return gzip.compress(bytes(size), compresslevel=9)
