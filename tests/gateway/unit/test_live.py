"""The data path's memory: true within a poll, kept while the database is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.db import InterfaceError, OperationalError
from prometheus_client import REGISTRY

from accounts.credentials import Credential
from accounts.identities import IDENTITIES, Identities
from billing import book
from billing.book import PriceBook
from gateway import live as live_module
from gateway.live import Live
from gateway.probes import Probes
from lib.models import Revision, Topic
from lib.problems import Unavailable
from providers import snapshot as snapshot_module
from providers.snapshot import Snapshot
from tests.gateway.unit.rig import Rig
from tests.loops import eventually, on_loop
from usage import feedback
from usage.feedback import Word


class Database:
    """What Revision.numbers, snapshot.load and book.load find; `fault` is raised instead."""

    def __init__(self) -> None:
        self.numbers = {Topic.KEYS: 1, Topic.ROUTING: 1}
        self.fault: Exception | None = None
        self.loads = 0
        self.polls = 0
        self.words: list[Word] = []

    def read_numbers(self) -> dict[str, int]:
        self.polls += 1
        if self.fault is not None:
            raise self.fault
        return dict(self.numbers)

    def load(self) -> Snapshot:
        self.loads += 1
        if self.fault is not None:
            raise self.fault
        return Snapshot()

    def words_since(self, number: int) -> list[Word]:
        return [word for word in self.words if word.number > number]

    def load_prices(self) -> PriceBook:
        if self.fault is not None:
            raise self.fault
        return PriceBook()


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database()
    monkeypatch.setattr(Revision, "numbers", database.read_numbers)
    monkeypatch.setattr(snapshot_module, "load", database.load)
    monkeypatch.setattr(book, "load", database.load_prices)
    monkeypatch.setattr(feedback, "words_since", database.words_since)
    monkeypatch.setattr(live_module, "POLL_SECONDS", 0.005)
    return database


@pytest.fixture
def live(database: Database) -> Iterator[Live]:
    live = Live(Identities())
    yield live
    asyncio.run(live.stop())


@on_loop
async def test_all_is_loaded_at_the_start_and_then_only_what_moved(
    live: Live, database: Database
) -> None:
    assert not live.loaded
    await live.poll()
    assert live.loaded and live.healthy
    first, generation, prices = live.snapshot, live.identities.generation, live.prices
    await live.poll()
    assert (live.snapshot, live.identities.generation) == (first, generation)
    assert live.prices is prices
    database.numbers[Topic.ROUTING] += 1
    await live.poll()
    assert live.snapshot is not first
    assert live.prices is not prices
    assert live.identities.generation == generation
    database.numbers[Topic.KEYS] += 1
    await live.poll()
    assert live.identities.generation > generation
    assert database.loads == 2


@on_loop
async def test_a_number_that_goes_back_is_a_change_too(live: Live, database: Database) -> None:
    """A database restored from a backup."""
    database.numbers[Topic.ROUTING] = 7
    await live.poll()
    database.numbers[Topic.ROUTING] = 3
    await live.poll()
    assert database.loads == 2


@pytest.mark.parametrize("fault", [OperationalError("pw-canary"), InterfaceError("pw-canary")])
@on_loop
async def test_what_is_known_stays_while_the_database_is_away(
    live: Live, database: Database, fault: Exception
) -> None:
    await live.poll()
    known = live.snapshot
    database.fault = fault
    for _ in range(3):
        await live.poll()
    assert not live.healthy
    assert live.loaded
    assert live.snapshot is known
    database.fault = None
    database.numbers[Topic.ROUTING] += 1
    await live.poll()
    assert live.healthy
    assert live.snapshot is not known


@on_loop
async def test_a_load_that_failed_is_tried_again(live: Live, database: Database) -> None:
    database.fault = OperationalError()
    await live.poll()
    assert not live.loaded
    assert not live.healthy
    database.fault = None
    await live.poll()
    assert live.loaded and live.healthy


@on_loop
async def test_nobody_is_let_in_before_anything_is_loaded(
    live: Live, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was away at the start: there are routes, only nobody knows them yet."""
    monkeypatch.setattr(Identities, "load", lambda *_: None)
    database.fault = OperationalError()
    await live.poll()
    with pytest.raises(Unavailable):
        await live.look_up(Credential())
    database.fault = None
    await live.look_up(Credential())
    assert live.loaded


@on_loop
async def test_a_change_lost_half_way_is_not_lost(live: Live, database: Database) -> None:
    """The numbers could be read and then the tables could not."""
    await live.poll()
    known, database.numbers[Topic.ROUTING] = live.snapshot, 2
    working, database.load = database.load, _away  # type: ignore[method-assign]
    snapshot_module.load = _away
    await live.poll()
    assert (live.snapshot, in_force(Topic.ROUTING)) == (known, 1)
    snapshot_module.load = working
    await live.poll()
    assert live.snapshot is not known and in_force(Topic.ROUTING) == 2


def in_force(topic: Topic) -> float | None:
    return REGISTRY.get_sample_value("patchbay_configuration_revision", {"topic": topic})


def _away() -> Any:
    raise OperationalError


@pytest.mark.parametrize("fault", [OperationalError(), RuntimeError("nobody thought of it")])
@on_loop
async def test_polling_goes_on_until_it_is_stopped(
    live: Live, database: Database, fault: Exception
) -> None:
    await live.start()
    database.numbers[Topic.ROUTING] = 2
    await eventually(lambda: database.loads == 2)
    database.fault = fault
    await eventually(lambda: not live.healthy)
    database.fault = None
    await eventually(lambda: live.healthy)
    await live.stop()
    polls = database.polls
    await asyncio.sleep(0.03)
    assert database.polls == polls


async def probe(
    live: Live, path: str, probes: Probes | None = None
) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("a probe has no body")

    await (probes or Probes(live))({"path": path}, receive, send)
    head, body = messages
    return head["status"], orjson.loads(body["body"]), dict(head["headers"])


@on_loop
async def test_probes_tell_liveness_from_readiness(live: Live, database: Database) -> None:
    for path in ("/readyz", "/startupz"):
        status, body, _ = await probe(live, path)
        assert status == 503
        assert body["degraded"] == ["database", "snapshot"]
    await live.poll()
    status, body, headers = await probe(live, "/readyz")
    assert (status, body["status"]) == (200, "ok")
    assert headers[b"cache-control"] == b"no-store"
    database.fault = OperationalError()
    await live.poll()
    status, body, _ = await probe(live, "/readyz")
    assert (status, body["degraded"]) == (503, ["database"])
    assert (await probe(live, "/livez"))[:2] == (200, {"status": "ok"})


@on_loop
async def test_who_drains_lives_but_is_not_ready(live: Live) -> None:
    await live.poll()
    probes = Probes(live)
    assert (await probe(live, "/readyz", probes))[0] == 200
    probes.drain()
    assert (await probe(live, "/readyz", probes))[:2] == (503, {"status": "draining"})
    assert (await probe(live, "/livez", probes))[0] == 200


@on_loop
async def test_a_key_not_seen_lately_cannot_be_checked_without_a_database(rig: Rig) -> None:
    known = rig.key
    assert (await rig.chat(key=known)).status == 200
    rig.callers.fault = OperationalError("pw-canary")
    fresh = rig.callers.add()
    client = await rig.chat(key=fresh)
    assert (client.status, client.error["code"]) == (503, "store_unavailable")
    assert int(client.headers["retry-after"]) > 0
    assert b"canary" not in client.body
    assert (await rig.chat(key=known)).status == 200
    rig.callers.fault = None
    assert (await rig.chat(key=fresh)).status == 200


@on_loop
async def test_a_key_is_looked_up_once(rig: Rig) -> None:
    for _ in range(3):
        assert (await rig.chat()).status == 200
    assert len(rig.callers.looked_up) == 1
    rig.gateway.identities.forget()
    assert (await rig.chat()).status == 200
    assert len(rig.callers.looked_up) == 2


@on_loop
async def test_a_key_forgotten_during_every_look_up_is_still_judged(rig: Rig) -> None:
    find = rig.callers.find

    def forgetting(name: str) -> Any:
        rig.gateway.identities.forget()
        return find(name)

    rig.callers.find = forgetting  # type: ignore[method-assign]
    assert (await rig.chat()).status == 200
    assert len(rig.callers.looked_up) < 10


@on_loop
async def test_junk_is_refused_without_a_look_up_and_then_at_all(rig: Rig) -> None:
    statuses = [(await rig.chat(key="pb_live_junk")).status for _ in range(40)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert rig.callers.looked_up == []
    assert (await rig.chat(peer="192.0.2.99")).status == 200
    refused = await rig.chat()
    assert refused.status == 429
    rig.clock.advance(int(refused.headers["retry-after"]))
    assert (await rig.chat()).status == 200


@on_loop
async def test_a_token_for_no_tenant(rig: Rig) -> None:
    client = await rig.chat(key=rig.callers.add(tenant=None))
    assert (client.status, client.error["code"]) == (401, "unauthenticated")
    assert client.headers["www-authenticate"] == "Bearer"


@on_loop
async def test_the_whole_life_of_a_gateway(rig: Rig, database: Database) -> None:
    await rig.gateway.start()
    assert rig.gateway.live.loaded
    await rig.gateway.stop()
    assert rig.journal.closed
    assert rig.upstreams.closed
    assert IDENTITIES is not rig.gateway.identities


@on_loop
async def test_each_word_of_people_is_heard_once(
    live: Live, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Word] = []
    live.on_word = heard.append
    monkeypatch.setattr(live_module, "LISTEN_SECONDS", 0.0)
    for number in (3, 4, 9):
        database.words.append(Word(number, "lab/gpt-x", 0.5))
        await live.poll()
        await live.poll()
    assert [word.number for word in heard] == [3, 4, 9]


@on_loop
async def test_a_database_that_takes_the_question_and_is_silent_is_away(
    live: Live, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "PATIENCE", 0.05)
    await live.poll()
    answers, numbers = threading.Event(), database.read_numbers

    def silent() -> dict[str, int]:
        answers.wait(20)
        return numbers()

    monkeypatch.setattr(Revision, "numbers", silent)
    await live.poll()
    assert live.loaded and not live.healthy
    answers.set()
    await live.poll()
    assert live.healthy
