"""The shared connection against a real server: each answer to its own question, whatever the
callers, the server and the network do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvloop

from lib.valkey import Script, StoreAway, StoreError, Valkey
from tests.loops import eventually, on_loop, ticking
from tests.services.valkey import Valkey as Server

ECHO = Script("return {KEYS[1], ARGV[1]}")
TOIL = Script("for _ = 1, 1000000 do end return ARGV[1]")  # some milliseconds
COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
# A machine that is busy with other tests delays both sides of the connection.
PATIENT = 5.0


@pytest.fixture(
    autouse=True, params=["asyncio", pytest.param("uvloop", marks=pytest.mark.unmeasured)]
)
def kind_of_loop(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Both kinds; and neither has to complain of errors that nobody looked at."""
    if request.param == "uvloop":
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield
    asyncio.set_event_loop_policy(None)
    records = caplog.get_records("call")
    assert not [record for record in records if record.name == "asyncio" and record.levelno > 30]


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Valkey]:
    store = Valkey(url, **{"timeout": PATIENT, **options})
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


async def answers(store: Valkey) -> bool:
    """Whether it serves now."""
    try:
        return await store.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]
    except StoreAway:
        return False


async def serves_again(store: Valkey) -> None:
    while not await answers(store):
        await asyncio.sleep(0.005)


@on_loop
async def test_commands_and_scripts(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        assert store.connected
        with valkey.client() as client:
            assert store.run_id == client.info("server")["run_id"]
        set_, got = store.call("SET", "a", b"\x00\xff"), store.call("GET", "a")
        assert await got == b"\x00\xff"
        assert await set_ == b"OK"
        assert await store.call("INCRBY", "n", 2**53) == 2**53
        assert await store.run(COUNT, ["n"], [-1]) == 2**53 - 1
        assert await store.run(ECHO, ["é"], ["ü"]) == ["é".encode(), "ü".encode()]
        with pytest.raises(StoreError) as caught:
            await store.call("LPUSH", "a", "x")
        assert caught.value.code == "WRONGTYPE"
        with pytest.raises(StoreError) as caught:
            await store.run(Script("return redis.error_reply('MINE is wrong')"), [], [])
        assert caught.value.code == "MINE"
    assert not store.connected
    with pytest.raises(StoreAway):
        store.call("PING")


@on_loop
async def test_what_cannot_be_sent_leaves_no_place_in_the_queue(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        for wrong in (None, "\udcff", [1]):
            with pytest.raises((TypeError, UnicodeEncodeError)):
                store.call("ECHO", wrong)  # type: ignore[arg-type]
            assert await store.call("ECHO", "mine") == b"mine"


@on_loop
async def test_a_forgotten_script_is_told_once_more(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        for flush in ("FLUSH SYNC", "FLUSH ASYNC"):
            await store.call("SCRIPT", *flush.split())
            before = await _calls(store, "eval")
            together = [store.run(COUNT, ["n"], [1]) for _ in range(200)]
            counted = await asyncio.gather(*together)
            assert len(set(counted)) == 200
            assert await _calls(store, "eval") - before == 1  # the others waited behind it
            await store.call("FLUSHALL")


async def _calls(store: Valkey, command: str) -> int:
    stats = (await store.call("INFO", "commandstats")).decode()
    for line in stats.splitlines():
        if line.startswith(f"cmdstat_{command}:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


@on_loop
async def test_a_script_forgotten_at_any_moment(valkey: Server) -> None:
    """While another keeps flushing the scripts, each run counts exactly once."""
    async with connected(valkey.url) as store, connected(valkey.url) as other:
        done = 0

        async def caller() -> None:
            nonlocal done
            for _ in range(100):
                with contextlib.suppress(StoreError):  # flushed twice within one run
                    await store.run(COUNT, ["n"], [1])
                    done += 1

        callers = [asyncio.create_task(caller()) for _ in range(20)]
        while not all(task.done() for task in callers):
            await other.call("SCRIPT", "FLUSH")
        await asyncio.gather(*callers)
        assert done > 1000
        assert int(await store.call("GET", "n")) == done


@pytest.mark.unmeasured
@on_loop
async def test_each_answer_belongs_to_its_own_question(valkey: Server) -> None:
    """Thousands of callers, of whom many give up: nobody ever sees another's answer."""
    right = wrong = given_up = 0
    async with connected(valkey.url, timeout=PATIENT) as store:

        async def caller(number: int) -> None:
            nonlocal right, wrong, given_up
            await asyncio.sleep(random.random() / 2)
            task = asyncio.current_task()
            if task is not None and number % 8 == 0:
                loop = asyncio.get_running_loop()
                loop.call_later(random.choice([0, 0.0005, 0.001]), task.cancel)
            for turn in range(3):
                mine = f"question-{number}-{turn}"
                try:
                    async with asyncio.timeout(random.choice([None, 0, 0.0005, 0.002])):
                        if number % 3:
                            wait = random.choice([PATIENT, PATIENT, 0.0005, 0.001])
                            answer = (await store.run(ECHO, ["k"], [mine], timeout=wait))[1]
                        else:
                            answer = await store.call("ECHO", mine)
                except (TimeoutError, StoreAway):
                    given_up += 1
                    continue
                right += answer == mine.encode()
                wrong += answer != mine.encode()

        tasks = [asyncio.create_task(caller(number)) for number in range(4000)]
        await asyncio.wait(tasks)
        assert wrong == 0
        assert right > 200
        assert given_up > 200
        assert sum(task.cancelled() for task in tasks) > 40
        await serves_again(store)


@on_loop
async def test_answers_stay_matched_over_freezes_and_deaths(valkey: Server) -> None:
    """As before, and the server stops, dies and comes back under way."""
    right = wrong = 0
    over = False
    async with connected(valkey.url, timeout=0.02) as store:

        async def caller(number: int) -> None:
            nonlocal right, wrong
            turn = 0
            while not over:
                turn += 1
                mine = f"{number}-{turn}"
                try:
                    answer = (await store.run(ECHO, ["k"], [mine]))[1]
                except StoreAway:
                    await asyncio.sleep(0.001)
                    continue
                right += answer == mine.encode()
                wrong += answer != mine.encode()

        callers = [asyncio.create_task(caller(number)) for number in range(20)]
        for pause in (0.03, 0.06, 0.35):
            with valkey.frozen():
                await asyncio.sleep(pause)
            seen = right
            await eventually(lambda seen=seen: right > seen)
        valkey.kill()
        await eventually(lambda: not store.connected)
        await asyncio.to_thread(valkey.start)
        seen = right
        await eventually(lambda: right > seen)
        over = True
        await asyncio.gather(*callers)
        assert wrong == 0


@on_loop
async def test_a_frozen_server_delays_nobody_for_long(valkey: Server) -> None:
    async with connected(valkey.url, timeout=0.04) as store:
        await serves_again(store)
        with valkey.frozen():
            waits = []
            first = store.call("PING")
            for _ in range(300):
                began = time.perf_counter()
                with pytest.raises(StoreAway):
                    await store.run(ECHO, ["k"], ["v"])
                waits.append(time.perf_counter() - began)
                await asyncio.sleep(0.002)
            # One waited its time out; those behind it heard at once.
            assert sum(wait > 0.02 for wait in waits) < 30
            assert not store.connected  # given up after a quarter of a second
            with pytest.raises(StoreAway):
                await first
        await serves_again(store)


@pytest.mark.parametrize("held_up", [(1,), (0, 1), (1, 1, 1)])
def test_who_was_held_up_himself_takes_no_answer_for_late(
    valkey: Server, held_up: tuple[int, ...]
) -> None:
    """However busy this process is, before it writes, after it, turn after turn: a server that
    takes a few milliseconds for its answers is not away."""

    @on_loop
    async def run() -> None:
        async with connected(valkey.url, timeout=0.2) as store:
            await store.run(TOIL, [], ["first"], timeout=PATIENT)
            asked = [asyncio.ensure_future(store.run(TOIL, [], [n])) for n in range(2)]
            for hold in held_up:
                await asyncio.sleep(0)
                time.sleep(hold * 0.25)  # noqa: ASYNC251 - what is tested
            assert await asyncio.gather(*asked) == [b"0", b"1"]

    run()


@on_loop
async def test_a_killed_server_is_found_again(valkey: Server) -> None:
    async with connected(valkey.url, timeout=1.0) as store:
        before = store.run_id
        waiting = store.call("BLPOP", "nothing", 0)
        valkey.kill()
        with pytest.raises(StoreAway):
            await waiting
        await eventually(lambda: not store.connected)
        began = time.perf_counter()
        for _ in range(100):
            with pytest.raises(StoreAway):
                await store.run(ECHO, ["k"], ["v"])
            with pytest.raises(StoreAway):
                store.call("PING")
        assert time.perf_counter() - began < 0.5
        await asyncio.to_thread(valkey.start)
        await eventually(lambda: store.connected)
        assert store.run_id != before
        assert await store.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]


@on_loop
async def test_a_server_that_was_not_there_at_the_start(valkey: Server) -> None:
    valkey.kill()
    store = Valkey(valkey.url, timeout=1.0)
    try:
        with pytest.raises(StoreAway, match="ConnectionRefusedError"):
            await store.connect()
        with pytest.raises(StoreAway):
            await store.connect()
        assert not store.connected
        await asyncio.to_thread(valkey.start)
        await serves_again(store)
    finally:
        await store.close()
    await store.connect()  # and once more after it was closed
    assert await answers(store)
    await store.close()


@on_loop
async def test_killed_connections_come_back(valkey: Server) -> None:
    async with connected(valkey.url, timeout=1.0) as store:
        for _ in range(3):
            await serves_again(store)
            with valkey.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            await eventually(lambda: not store.connected)
        await serves_again(store)


@on_loop
async def test_nobody_is_served_before_the_connection_is_prepared(valkey: Server) -> None:
    prepared: list[str] = []
    going = asyncio.Event()

    async def prepare(store: Valkey) -> None:
        assert not store.connected
        async with asyncio.TaskGroup() as group:  # what it starts may ask, too
            group.create_task(store.run(COUNT, ["prepared"], [1]))
        await store.call("SET", "seen", store.run_id)
        prepared.append(store.run_id)
        await going.wait()

    store = Valkey(valkey.url, timeout=PATIENT, on_connect=prepare)
    connecting = asyncio.create_task(store.connect())
    try:
        await eventually(lambda: prepared)
        assert not store.connected
        with pytest.raises(StoreAway):
            store.call("PING")
        with pytest.raises(StoreAway):
            await store.run(ECHO, ["k"], ["v"])
        going.set()
        await connecting
        assert store.connected
        assert await store.call("GET", "prepared") == b"1"
        assert await store.call("GET", "seen") == store.run_id.encode()
        valkey.kill()
        await asyncio.to_thread(valkey.start)
        await eventually(lambda: len(prepared) == 2 and store.connected)
        assert prepared[1] == store.run_id != prepared[0]
    finally:
        await store.close()


@pytest.mark.parametrize("fault", [StoreAway("x"), StoreError("X y"), KeyError("x")])
def test_a_connection_that_cannot_be_prepared_is_tried_again(
    valkey: Server, fault: Exception
) -> None:
    times = 0

    async def prepare(store: Valkey) -> None:
        nonlocal times
        times += 1
        if times < 3:
            raise fault

    @on_loop
    async def run() -> None:
        store = Valkey(valkey.url, timeout=PATIENT, on_connect=prepare)
        with pytest.raises(StoreAway):
            await store.connect()
        await eventually(lambda: store.connected)
        assert times == 3
        await store.close()

    run()


@on_loop
async def test_closing_while_connecting_ends_the_wait(valkey: Server) -> None:
    async def never(store: Valkey) -> None:
        await asyncio.Event().wait()

    store = Valkey(valkey.url, on_connect=never)
    connecting = asyncio.create_task(store.connect())
    await asyncio.sleep(0.05)
    await store.close()
    with pytest.raises(StoreAway):
        await connecting
    assert _connections(valkey) == 1  # the one that asks


def _connections(server: Server) -> int:
    with server.client() as client:
        return len(client.client_list())


@on_loop
async def test_a_closed_store_leaves_no_connection(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        waiting = store.call("BLPOP", "nothing", 0)
    with pytest.raises(StoreAway):
        await waiting
    while _connections(valkey) > 1:
        await asyncio.sleep(0.01)


@on_loop
async def test_password_user_and_database(valkey: Server) -> None:
    with valkey.client() as client:
        client.acl_setuser(
            "gate", enabled=True, passwords=["+p@ss/wo:rd"], keys=["*"], commands=["+@all"]
        )
        client.select(0)
    try:
        url = valkey.url.replace("redis://", "valkey://gate:p%40ss%2Fwo%3Ard@").replace("/0", "/3")
        async with connected(url) as store:
            assert await store.call("ACL", "WHOAMI") == b"gate"
            assert b"db=3" in await store.call("CLIENT", "INFO")
        store = Valkey(url.replace("p%40ss", "secret"))
        with pytest.raises(StoreAway) as caught:
            await store.connect()
        assert str(caught.value) == "WRONGPASS"
        await store.close()
    finally:
        with valkey.client() as client:
            client.acl_deluser("gate")


@on_loop
async def test_a_replica_is_no_store(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        assert await store.run(COUNT, ["n"], [1]) == 1
        with valkey.client() as client:
            client.replicaof("127.0.0.1", "1")
            client.config_set("replica-serve-stale-data", "no")
            try:
                with pytest.raises(StoreAway, match="MASTERDOWN"):
                    await store.run(COUNT, ["n"], [1])
                client.config_set("replica-serve-stale-data", "yes")
                with pytest.raises(StoreAway, match="READONLY"):
                    await store.run(COUNT, ["n"], [1])
                assert not store.connected
            finally:
                client.config_set("replica-serve-stale-data", "yes")
                client.replicaof("NO", "ONE")
        await eventually(lambda: store.connected)
        assert await store.run(COUNT, ["n"], [1]) == 2


@on_loop
async def test_a_full_store_is_an_error_of_its_own(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        with valkey.client() as client:
            client.config_set("maxmemory", "1")
            try:
                with pytest.raises(StoreError) as caught:
                    await store.run(COUNT, ["n"], [1])
            finally:
                client.config_set("maxmemory", "0")
        assert caught.value.code == "OOM"
        assert store.connected


@on_loop
async def test_this_process_held_up_is_not_the_servers_fault(valkey: Server) -> None:
    """The answer was there in time; that nobody read it is no reason to give up on it."""
    async with connected(valkey.url, timeout=0.04) as store:
        await serves_again(store)
        waiting = asyncio.create_task(store.run(ECHO, ["k"], ["v"]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251
        assert await waiting == [b"k", b"v"]
        assert store.connected


@on_loop
async def test_a_script_that_takes_too_long_is_only_its_callers_trouble(valkey: Server) -> None:
    slow = Script("local e = os.clock() + 0.1 repeat until os.clock() > e return 'slow'")
    async with connected(valkey.url, timeout=0.03) as store:
        await serves_again(store)
        assert await store.run(slow, [], [], timeout=PATIENT) == b"slow"
        with pytest.raises(StoreAway, match="no answer in time"):
            await store.run(slow, [], [])
        await serves_again(store)
        assert await store.run(ECHO, ["k"], ["mine"], timeout=PATIENT) == [b"k", b"mine"]
        assert store.connected


@on_loop
async def test_the_loop_is_not_held_up(valkey: Server) -> None:
    async with connected(valkey.url) as store:
        async with ticking() as ticker:
            for _ in range(20):
                await asyncio.gather(*(store.run(ECHO, ["k"], [n]) for n in range(100)))
        assert ticker.longest < 0.2
