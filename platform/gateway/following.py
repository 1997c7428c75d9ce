"""The further requests of an attempt that takes more than one: step by step, or side by side.

Each must be whole within `first_byte`, all of them by the attempt's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from gateway.routing import Candidate
from providers.adapter import Adapter
from providers.call import Answer, Further, Outcome, UpstreamRequest, Verdict
from providers.transport import Response, Transport, TransportFault

Ask = Callable[[UpstreamRequest], Coroutine[Any, Any, Outcome]]
_OF_ONE: Final = frozenset({"etag", "last-modified", "date", "age"})


async def followed(further: Further, ask: Ask) -> Answer:
    """The answer at the end of it. Raises StreamFault."""
    while True:
        if len(further.requests) == 1:
            outcomes = [await ask(further.requests[0])]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(each)) for each in further.requests]
            outcomes = [task.result() for task in tasks]
        answer = further.then(outcomes)
        if isinstance(answer, Answer):
            return answer
        further = answer


async def ask_once(
    transport: Transport, adapter: Adapter, request: UpstreamRequest, candidate: Candidate
) -> Outcome:
    """How one request ended, whatever way."""
    try:
        async with asyncio.timeout(candidate.timeouts.first_byte) as limit:
            response = await transport.send(
                request, candidate.timeouts, allow_private=candidate.allow_private
            )
            try:
                body = await response.read()
            finally:
                response.close()
    except TransportFault as fault:
        return fault.outcome
    except TimeoutError:
        if not limit.expired():
            raise
        return Outcome(Verdict.TIMEOUT, message="a further request was not answered in time")
    judge = request.judge or adapter.outcome
    return judge(response.status, response.headers, body)


class Joined:
    """The head of an answer that was made of several: none of them may be asked later whether it
    still holds, for it would speak for itself only."""

    def __init__(self, first: Response) -> None:
        self._first = first
        self.status = first.status
        self.headers = {name: value for name, value in first.headers.items() if name not in _OF_ONE}

    async def read(self) -> bytes:
        return b""

    def chunks(self) -> AsyncIterator[bytes]:
        return self._first.chunks()

    def close(self) -> None:
        self._first.close()
