"""Server-sent events, as bytes: the decoder all streaming dialects share.

Rules from the HTML standard §9.2.6 (event stream interpretation): lines end with CR, LF or
CRLF, wherever the network cut them; a comment begins with a colon; an event ends at an empty
line; one leading BOM is ignored.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

# A provider that sends a longer line or event is not speaking the protocol (memory bound).
MAX_EVENT_BYTES = 4 * 1024 * 1024

DONE = b"data: [DONE]\n\n"


class EventTooLarge(Exception):
    """One event passed MAX_EVENT_BYTES before its closing empty line."""


class Event(NamedTuple):
    """One dispatched event: `name` is empty for the default type, `data` joined by LF."""

    name: str
    data: bytes


class Decoder:
    """Feed it chunks cut anywhere; get the events that became complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._skip_lf = False
        self._first = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Events completed by `chunk`. Raises EventTooLarge."""
        if self._skip_lf and chunk:
            # The last chunk ended with CR; this LF is the other half of the same line end.
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        self._rest += chunk
        if self._first:
            if self._rest in (b"\xef", b"\xef\xbb"):
                return []
            if self._rest:
                self._rest = self._rest.removeprefix(b"\xef\xbb\xbf")
                self._first = False
        lines = self._complete_lines()
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise EventTooLarge
        events: list[Event] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(Event(self._name, b"\n".join(self._data)))
                self._name, self._data, self._size = "", [], 0
            else:
                self._field(line)
        return events

    def _complete_lines(self) -> list[bytes]:
        rest = self._rest
        if b"\r" in rest:
            if rest.endswith(b"\r"):
                self._skip_lf = True
            rest = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = rest.split(b"\n")
        return lines

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise EventTooLarge
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")


def encode(document: object) -> bytes:
    """One event in OpenAI's framing."""
    return b"data: " + orjson.dumps(document) + b"\n\n"
