"""Each provider has connections of its own: one that hangs fills those, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import random

from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import Http1Transport, TransportFault
from tests.loops import eventually, on_loop
from tests.providers.transport.calls import fault_of, ours_only, read, send
from tests.providers.upstreams import Connection, Server, answer, serving

pytestmark = ours_only
SLOTS = 3
SHORT = Timeouts(connect=0.05, idle=5)


async def hanging(connection: Connection) -> None:
    """Answers everything but /hang, which it never does."""
    while request := await connection.request():
        if request.startswith(b"GET /hang"):
            await connection.until_hang_up()
            return
        await connection.send(answer(b"ok"))


def of(bulkhead: str, request: UpstreamRequest) -> UpstreamRequest:
    return request._replace(bulkhead=bulkhead)


async def fill(transport: Http1Transport, server: Server) -> list[asyncio.Task[bytes]]:
    """Callers that hang in all of the slow provider's slots."""
    request = of("slow", server.get("/hang"))
    tasks = [asyncio.create_task(read(transport, request)) for _ in range(SLOTS)]
    await eventually(lambda: len(server.requests) == SLOTS)
    return tasks


async def leave(tasks: list[asyncio.Task[bytes]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@on_loop
async def test_a_provider_that_hangs_delays_no_other_at_the_same_place() -> None:
    async with serving(hanging) as server:
        transport = Http1Transport(connections_per_pool=SLOTS)
        hung = await fill(transport, server)
        waiting = [
            asyncio.create_task(read(transport, of("slow", server.get()))) for _ in range(20)
        ]
        for _ in range(9):
            async with asyncio.timeout(0.5):  # those who wait do so for a second
                assert await read(transport, of("other", server.get())) == b"ok"
        await leave(hung + waiting)
        await transport.close()


@on_loop
async def test_who_finds_no_slot_is_told_soon_and_nothing_was_sent() -> None:
    async with serving(hanging) as server:
        transport = Http1Transport(connections_per_pool=SLOTS)
        hung = await fill(transport, server)
        late = [send(transport, of("slow", server.get()), SHORT) for _ in range(5)]
        verdicts = await asyncio.gather(*map(fault_of, late))
        assert verdicts == [Verdict.SATURATED] * 5
        assert len(server.requests) == len(server.connections) == SLOTS
        await leave(hung)
        for _ in range(SLOTS):  # the places of all of them are free again
            assert await read(transport, of("slow", server.get())) == b"ok"
        await transport.close()


@on_loop
async def test_the_wait_for_a_slot_ends_before_the_time_for_the_first_byte() -> None:
    """Who runs out of that would say that the provider was slow."""
    async with serving(hanging) as server:
        transport = Http1Transport(connections_per_pool=SLOTS)
        hung = await fill(transport, server)
        times = Timeouts(connect=30, first_byte=0.4)
        async with asyncio.timeout(times.first_byte):
            verdict = await fault_of(send(transport, of("slow", server.get()), times))
        assert verdict is Verdict.SATURATED
        await leave(hung)
        await transport.close()


@on_loop
async def test_a_slot_that_frees_in_the_moment_a_wait_ends_is_never_lost() -> None:
    """Waits of about as long as a call takes, many of them cancelled: afterwards all slots
    must be there, or as many callers at once would wait for ever."""
    pick = random.Random(7)

    async def brisk(connection: Connection) -> None:
        while await connection.request():
            await asyncio.sleep(0.002)
            await connection.send(answer(b"ok"))

    async with serving(brisk) as server:
        transport = Http1Transport(connections_per_pool=SLOTS)

        async def call(seconds: float) -> bool:
            times = Timeouts(connect=seconds, idle=5)
            try:
                response = await send(transport, of("p", server.get()), times)
            except TransportFault as fault:
                assert fault.outcome.verdict is Verdict.SATURATED
                return False
            with contextlib.closing(response):
                return await response.read() == b"ok"

        await asyncio.gather(*(call(5.0) for _ in range(SLOTS)))
        tasks = [asyncio.create_task(call(pick.uniform(0.001, 0.04))) for _ in range(150)]
        for task in tasks[::5]:
            asyncio.get_running_loop().call_later(pick.uniform(0, 0.04), task.cancel)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {True, False} <= {each for each in ended if isinstance(each, bool)}
        assert await asyncio.gather(*(call(5.0) for _ in range(2 * SLOTS))) == [True] * 2 * SLOTS
        (pool,) = transport._pools.values()
        assert (pool._calls, pool._slots._value) == (0, SLOTS)
        await transport.close()
