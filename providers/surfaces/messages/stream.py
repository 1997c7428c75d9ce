"""A stream of chat completion chunks as Anthropic's events.

At Anthropic a message is a row of blocks, each begun, told in pieces and ended, one after
another; OpenAI's deltas only say what is added. So a block ends when something else begins.
How much input there was is known when the stream ends: `message_start` says 0, and
`message_delta`, whose figures stand in for those before, has the count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from providers.call import Usage
from providers.surfaces.messages.answer import (
    arguments_of,
    call_head,
    citations_of,
    counts_of,
    end_of,
    head_of,
    own_thoughts_of,
    said_of,
)
from providers.surfaces.messages.errors import broken_off
from providers.surfaces.reading import (
    END,
    Events,
    Fields,
    choice_of,
    document_of,
    entries_of,
    fields_of,
    reasoning_of,
    text_of,
    usage_of,
)

LAST = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_NO_THOUGHT = {"thinking": "", "signature": ""}
_NO_TEXT = {"text": ""}
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


class MessageStream:
    """Feed it the chunks' bytes, cut anywhere; get the events that they make."""

    def __init__(self) -> None:
        self._events = Events()
        self._begun = self._over = False
        self._open = ""  # the kind of the block that is being told
        self._index = -1  # the block's
        self._calls: dict[int, int] = {}  # a call's index among the calls: its block's
        self._choice: dict[str, Any] = {}
        self._usage: Usage | None = None

    def feed(self, chunk: bytes) -> bytes:
        told: list[bytes] = []
        for data in self._events.feed(chunk):
            if not self._over:
                told += self._end() if data == END else self._read(document_of(data))
        return b"".join(told)

    def _read(self, document: Fields) -> Iterator[bytes]:
        if error := fields_of(document.get("error")):
            self._over = True
            yield _event("error", **broken_off(error))
            return
        if not self._begun:
            yield self._begin(document)
        self._usage = usage_of(document) or self._usage
        choice = choice_of(document)
        yield from self._tell(fields_of(choice.get("delta")))
        for name in ("finish_reason", "stop_reason"):
            if (value := choice.get(name)) is not None:
                self._choice[name] = value

    def _begin(self, document: Fields) -> bytes:
        self._begun = True
        usage = {"input_tokens": 0, "output_tokens": 0}
        ends = {"stop_reason": None, "stop_sequence": None}
        message = {**head_of(document), "content": [], **ends, "usage": usage}
        return _event("message_start", message=message)

    def _tell(self, delta: Fields) -> Iterator[bytes]:
        yield from self._think(delta)
        if text := said_of(delta):
            yield from self._at("text", _NO_TEXT)
            yield self._delta("text_delta", text=text)
        for citation in citations_of(delta):
            yield from self._at("text", _NO_TEXT)
            yield self._delta("citations_delta", citation=citation)
        for place, call in enumerate(entries_of(delta.get("tool_calls"))):
            index = call.get("index")
            yield from self._call(call, index if isinstance(index, int) else place)

    def _think(self, delta: Fields) -> Iterator[bytes]:
        """A piece of a thought; or a block that is whole and ends what was told of it, or of
        which nothing was told so far."""
        blocks = own_thoughts_of(delta)
        for block in blocks:
            if block["type"] != "thinking":
                yield from self._close()
                yield self._start(block)
            elif self._open != "thinking":
                yield from self._at("thinking", _NO_THOUGHT)
                yield from self._said("thinking", block)
            yield from self._said("signature", block)
            yield from self._close()
        if not blocks and (text := reasoning_of(delta)):
            yield from self._at("thinking", _NO_THOUGHT)
            yield self._delta("thinking_delta", thinking=text)

    def _said(self, field: str, block: Fields) -> Iterator[bytes]:
        if text := text_of(block.get(field)):
            yield self._delta(f"{field}_delta", **{field: text})

    def _call(self, call: Fields, index: int) -> Iterator[bytes]:
        if index not in self._calls:
            yield from self._close()
            yield self._start({**call_head(call), "input": {}})
            self._calls[index] = self._index
        if arguments := arguments_of(call):
            delta = {"type": "input_json_delta", "partial_json": arguments}
            yield _event("content_block_delta", index=self._calls[index], delta=delta)

    def _at(self, kind: str, block: Fields) -> Iterator[bytes]:
        """A block of that kind is open."""
        if self._open != kind:
            yield from self._close()
            yield self._start({"type": kind, **block})

    def _start(self, block: Fields) -> bytes:
        self._index += 1
        self._open = block["type"]
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, kind: str, **said: Any) -> bytes:
        return _event("content_block_delta", index=self._index, delta={"type": kind, **said})

    def _close(self) -> Iterator[bytes]:
        if self._open:
            self._open = ""
            yield _event("content_block_stop", index=self._index)

    def _end(self) -> Iterator[bytes]:
        self._over = True
        yield from self._close()
        end = end_of(self._choice, called=bool(self._calls))
        yield _event("message_delta", delta=end, usage=counts_of(self._usage))
        yield LAST


def _event(kind: str, **members: Any) -> bytes:
    data = orjson.dumps({"type": kind, **members})
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)
