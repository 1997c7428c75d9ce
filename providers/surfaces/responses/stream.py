"""A stream of chat completion chunks as the typed events of a Response. A whole answer is told in
one delta, of which only the last event's Response is wanted.

Calls stay open until all are told: services may tell them by turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from providers.call import Usage
from providers.surfaces.reading import (
    END,
    Events,
    Fields,
    choice_of,
    document_of,
    entries_of,
    fields_of,
    joined,
    reasoning_of,
    text_of,
    usage_of,
)
from providers.surfaces.responses.answer import end_of, response_of
from providers.surfaces.responses.output import Call, Message, Output, Reasoning, Told

_LAST = (b"event: response.completed\n", b"event: response.incomplete\n")
_FAILURE = "server_error"  # the only code of OpenAI's that says no more than that it failed


class ResponseStream:
    """Of one call. `asked` is the client's request, of which a Response repeats much."""

    def __init__(self, request_id: str) -> None:
        self.asked: Mapping[str, Any] = {}
        self._base = request_id
        self._events = Events()
        self._sequence = 0
        self._begun = self._over = False
        self._head: dict[str, Any] = {}
        self._items: list[Output] = []
        self._done: dict[int, dict[str, Any]] = {}  # items by their places
        self._open: dict[str, Output] = {}  # by what is told in them
        self._extra: dict[str, Any] = {}  # for the maker of the model, until it has an item
        self._finish: Any = None
        self._usage: Usage | None = None

    def feed(self, chunk: bytes) -> bytes:
        said: list[bytes] = []
        for data in self._events.feed(chunk):
            if not self._over:
                told = self._end() if data == END else self._read(document_of(data))
                said += [self._event(kind, members) for kind, members in told]
        return b"".join(said)

    def whole(self, document: Fields) -> dict[str, Any]:
        """The Response that a chat.completion is."""
        choice = choice_of(document)
        message = fields_of(choice.get("message"))
        told = {**document, "choices": [{**choice, "delta": message}]}
        *_, (_, last) = [*self._read(told), *self._end()]
        response: dict[str, Any] = last["response"]
        return response

    def _read(self, document: Fields) -> Told:
        if not self._begun:
            yield from self._begin(document)
        if error := fields_of(document.get("error")):
            yield from self._fail(error)
            return
        self._usage = usage_of(document) or self._usage
        choice = choice_of(document)
        yield from self._tell(fields_of(choice.get("delta")))
        self._finish = choice.get("finish_reason") or self._finish

    def _begin(self, document: Fields) -> Told:
        self._begun = True
        self._base = text_of(document.get("id")).removeprefix("chatcmpl-") or self._base
        created = document.get("created")
        self._head = {
            "id": f"resp_{self._base}",
            "created_at": created if isinstance(created, int) else 0,
            "model": text_of(document.get("model")),
        }
        yield "created", {"response": self._response()}
        yield "in_progress", {"response": self._response()}

    def _tell(self, delta: Fields) -> Told:
        extra = fields_of(delta.get("extra_content"))
        if text := reasoning_of(delta):
            yield from self._say("reasoning", text)
        if extra:
            self._extra = joined(self._extra, extra)
            if not self._open:
                yield from self._start("reasoning")
        for kind, name in (("text", "content"), ("refusal", "refusal")):
            if text := text_of(delta.get(name)):
                yield from self._say(kind, text)
        for place, call in enumerate(entries_of(delta.get("tool_calls"))):
            index = call.get("index")
            yield from self._call(call, index if isinstance(index, int) else place)

    def _say(self, kind: str, text: str) -> Told:
        if kind not in self._open:
            yield from self._start(kind)
        yield from self._open[kind].say(text)

    def _start(self, kind: str) -> Told:
        yield from self._close()
        if kind == "reasoning":
            yield from self._add(kind, Reasoning(*self._place("rs")))
        else:
            yield from self._add(kind, Message(*self._place("msg"), refuses=kind == "refusal"))

    def _call(self, call: Fields, index: int) -> Told:
        kind, function = f"call {index}", fields_of(call.get("function"))
        if kind not in self._open:
            if not any(isinstance(each, Call) for each in self._open.values()):
                yield from self._close()
            item_id, place = self._place("fc")
            call_id, name = text_of(call.get("id")) or item_id, text_of(function.get("name"))
            yield from self._add(kind, Call(item_id, place, call_id=call_id, name=name))
        if arguments := text_of(function.get("arguments")):
            yield from self._open[kind].say(arguments)

    def _place(self, prefix: str) -> tuple[str, int]:
        place = len(self._items)
        return f"{prefix}_{self._base}_{place}", place

    def _add(self, kind: str, item: Output) -> Told:
        self._items.append(item)
        self._open[kind] = item
        yield from item.begin()

    def _close(self, status: str = "completed") -> Told:
        for item in self._open.values():
            if isinstance(item, Reasoning):
                item.extra, self._extra = self._extra, {}
            yield from item.done(status)
            self._done[item.where["output_index"]] = item.item(status)
        self._open = {}

    def _end(self) -> Told:
        end = end_of(self._finish, self._usage)
        yield from self._close(end["status"])
        if self._extra:
            yield from self._start("reasoning")
            yield from self._close()
        self._over = True
        yield end["status"], {"response": self._response(**end)}

    def _fail(self, error: Fields) -> Told:
        """What is open stays so: it was not finished."""
        self._over = True
        told = {"code": _FAILURE, "message": error.get("message"), "problem": error.get("code")}
        yield "failed", {"response": self._response(status="failed", error=told)}

    def _response(self, **end: Any) -> dict[str, Any]:
        output = [self._done[place] for place in sorted(self._done)]
        return response_of(self._head, self.asked, output, **end)

    def _event(self, kind: str, members: Mapping[str, Any]) -> bytes:
        name = f"response.{kind}"
        data = orjson.dumps({"type": name, "sequence_number": self._sequence, **members})
        self._sequence += 1
        return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def is_end(stream: bytes) -> bool:
    return stream.endswith(b"\n\n") and stream[:-2].rpartition(b"\n\n")[2].startswith(_LAST)
