"""Mid-stream rescue: what a provider broke off, the route's next target carries on in the same
stream to the client. For routes that opted in, and for plain text only.

`restart` asks the question anew and sends what goes beyond the text that was sent already; an
answer that begins otherwise is of no use, and the next target is asked. `continue` hands over
that text as the beginning of the answer. No character is sent twice, and none is taken back.
Each attempt's use is on its own record; the caller pays for the one whose text came last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.served import Served
from lib.problems import Problem
from providers.adapter import StreamFault
from providers.call import Call, Outcome, Verdict
from providers.openai_wire import CHARACTERS_PER_TOKEN
from providers.sse import encode
from providers.transport import TransportFault
from usage.record import AttemptRecord

CONTINUE = "continue"
RESTATED = 20  # characters: who goes on and begins with as much as all that was sent repeats it
_UNFINISHED = Outcome(Verdict.BAD_PAYLOAD, 200, "the stream ended before its end")
_LIMITS = ("max_tokens", "max_completion_tokens")

Sent = Callable[[list[bytes]], list[bytes]]
Pump = Callable[[Served, Sent], Awaitable[None]]


class Diverged(StreamFault):
    """Another answer begins otherwise than what the client has already."""

    def __init__(self) -> None:
        super().__init__(Outcome(Verdict.OK, 200, "another answer begins otherwise"))


class Rescue:
    """Of one stream. `pump` sends an attempt's events as `sent` returns them, until its end;
    `account` notes what an attempt used on its record; `take` makes an attempt the one that the
    call is billed by."""

    def __init__(
        self,
        served: Served,
        *,
        mode: str,
        attempts: list[AttemptRecord],
        pump: Pump,
        account: Callable[[Served, AttemptRecord], None],
        take: Callable[[Served, Served], None],
    ) -> None:
        self.payer = served
        self._mode = mode
        self._attempts = attempts
        self._pump, self._account, self._take = pump, account, take
        self._text = Text()

    async def run(self) -> None:
        """Raises StreamFault or TransportFault when nobody is left to carry on."""
        await self._carry(self.payer, self._text.sent)

    async def _carry(self, served: Served, sent: Sent) -> None:
        note = self._attempts[-1]
        try:
            await self._pump(served, sent)
            if served.meter.complete:
                return
            fault: StreamFault | TransportFault = StreamFault(_UNFINISHED)
        except (StreamFault, TransportFault) as broken:
            fault = broken
        except BaseException:
            if served is not self.payer:
                self._ended(served, note, "unused")
            raise
        diverged = isinstance(fault, Diverged)
        self._ended(served, note, "diverged" if diverged else str(fault.outcome.verdict))
        if not diverged:
            served.permits.record(fault.outcome)
        served.response.close()
        successor = await self._successor()
        if successor is None:
            raise fault
        with successor:
            seam = Seam(self._text, self._mode)
            await self._carry(successor, lambda events: self._joined(successor, seam, events))

    def _ended(self, served: Served, note: AttemptRecord, verdict: str) -> None:
        note.verdict = verdict
        self._account(served, note)

    async def _successor(self) -> Served | None:
        search = self.payer.search
        if search is None or not self._text.plain:
            return None
        call = search.asked
        if self._mode == CONTINUE and self._text.said:
            call = continued(call, self._text.said)
        try:
            return await search.further(call)
        except Problem:
            return None  # the client has a stream that began well, and what broke it is told there

    def _joined(self, served: Served, seam: Seam, events: list[bytes]) -> list[bytes]:
        beyond = [event for one in events for event in seam.join(one)]
        if beyond and served is not self.payer:
            self._take(self.payer, served)
            self.payer = served
        return self._text.sent(beyond)


class Text:
    """What the client was told so far. `plain`: it is text and nothing else, and has no end."""

    def __init__(self) -> None:
        self.said = ""
        self.id = ""
        self.plain = True

    def sent(self, events: list[bytes]) -> list[bytes]:
        for event in events:
            chunk = orjson.loads(event[len(b"data: ") :])
            self.id = self.id or chunk.get("id", "")
            for choice in chunk.get("choices", ()):
                delta = choice.get("delta") or {}
                self.said += delta.get("content") or ""
                self.plain = self.plain and _is_plain(choice, delta)
        return events


class Seam:
    """Joins another answer's events to the text that was sent."""

    def __init__(self, text: Text, mode: str) -> None:
        self._text = text
        self._goes_on = mode == CONTINUE
        self._before = text.said
        self._met = ""  # of another answer: what is the same as the beginning of `before`
        self._joined = not text.said or (self._goes_on and len(text.said) < RESTATED)

    def join(self, event: bytes) -> list[bytes]:
        """The event as it goes to the client, if anything of it does. Raises Diverged."""
        chunk = orjson.loads(event[len(b"data: ") :])
        chunk["id"] = self._text.id or chunk.get("id")
        said = False
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta") or {}
            delta.pop("role", None)
            if not self._joined:
                piece, ended = delta.get("content") or "", not _is_plain(choice, delta)
                delta["content"] = self._beyond(piece, ended=ended)
            said = said or bool(choice.get("finish_reason")) or any(delta.values())
        return [encode(chunk)] if said or not chunk.get("choices") else []

    def _beyond(self, piece: str, *, ended: bool) -> str:
        met = self._met + piece
        if met.startswith(self._before):
            self._joined = True
            return met[len(self._before) :]
        if self._before.startswith(met) and not ended:
            self._met = met
            return ""
        if not self._goes_on:
            raise Diverged
        self._joined = True
        return met


def continued(call: Call, said: str) -> Call:
    """The same question, with the beginning of its answer; what was said counts towards the
    output that the caller asked for at most."""
    params: dict[str, Any] = dict(call.params)
    params["messages"] = [*params["messages"], {"role": "assistant", "content": said}]
    for name in _LIMITS:
        if limit := params.get(name):
            params[name] = max(1, limit - len(said) // CHARACTERS_PER_TOKEN)
    return replace(call, params=params, body=b"")


def _is_plain(choice: Mapping[str, Any], delta: Mapping[str, Any]) -> bool:
    others = any(value for name, value in delta.items() if name not in ("role", "content"))
    return not (others or choice.get("finish_reason") or choice.get("logprobs"))
