"""`POST /batch`: several data operations in one request, each a call of its own.

An item goes through the same door as a call that comes alone, so it is admitted, limited,
billed and logged like one. Here the items are only handed in and their answers gathered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.exchange import Exchange, Receive, Scope, Send
from gateway.paths import Door
from lib.clock import utc
from lib.problems import NotFound
from providers.operations import Kind, registry
from providers.operations.batch import Item
from usage.reservation import HungUp

AT_ONCE = 10

Handle = Callable[[Door, Scope, Receive, Send], Awaitable[None]]


@dataclass(slots=True)
class _Answer:
    """What an item's door sends, kept."""

    status: int = 0
    body: bytes = b""

    async def send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


@dataclass(slots=True)
class Batch:
    """One batch. `handle` is the gateway's own way in."""

    exchange: Exchange
    handle: Handle
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def answer(self, items: Sequence[Item]) -> bytes:
        """The items' answers in their order. Raises HungUp."""
        watcher = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(item)) for item in items]
        finally:
            watcher.cancel()
        if self._left.is_set():
            raise HungUp
        answers = [task.result() for task in tasks]
        data = [
            {"index": index, "status": answer.status, "body": orjson.Fragment(answer.body)}
            for index, answer in enumerate(answers)
        ]
        return orjson.dumps({"data": data, "meta": {"request_id": self.exchange.request_id}})

    async def _one(self, item: Item) -> _Answer:
        answer = _Answer()
        async with self._slots:
            if self._left.is_set():
                return answer
            operation = registry().get(item.operation)
            if operation is None or operation.kind is not Kind.DATA:
                return self._unknown()
            door = Door(operation.name, operation.method, operation)
            scope = {
                **self.exchange.scope,
                "method": operation.method,
                "path": operation.path,
                "query_string": item.query,
            }
            await self.handle(door, scope, self._receive, answer.send)
        return answer

    def _unknown(self) -> _Answer:
        """It never becomes a call, so it is told under the batch's own request id."""
        problem = NotFound("No data operation has this name. See `GET /api/v1/catalogue`.")
        now = utc(self.exchange.clock.now())
        document = problem.as_problem(self.exchange.request_id, now)
        return _Answer(problem.status, orjson.dumps(document))

    async def _receive(self) -> dict[str, Any]:
        """For each item; the server tells only once that the client left."""
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _watch(self) -> None:
        while (await self.exchange.receive())["type"] != "http.disconnect":
            pass  # the empty rest of the body
        self._left.set()
