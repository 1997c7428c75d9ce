"""The cache as a whole: what it serves and as what, what it keeps and for how long."""

from __future__ import annotations

import asyncio
import time

import pytest

from cache import cache as module
from cache.cache import Answer, Ask, Cache, Look
from cache.compression import MOST_BYTES
from cache.entry import Entry, Origin
from cache.freshness import State, Times
from cache.policy import CachePolicy, Wish
from lib.problems import Unavailable
from providers.call import Usage
from tests.cache.serving import SECRET, Provider, ask, serve, state_of
from tests.clocks import ManualClock
from tests.loops import eventually, on_loop

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


class Stage:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cache = Cache(SECRET, clock=self.clock)

    def answer(self, body: bytes = b"{}", **more: object) -> Answer:
        now = self.clock.now()
        return Answer(body, Times(now, now), **more)  # type: ignore[arg-type]

    async def keep(self, answer: Answer, **options: object) -> Entry | None:
        options.setdefault("wish", Wish(no_cache=True))
        async with self.cache.look(self.ask(**options)) as look:
            return look.keep(answer)

    def ask(self, **options: object) -> Ask:
        return ask(self.cache, **options)  # type: ignore[arg-type]


@on_loop
async def test_a_hit_has_all_that_its_row_and_its_reader_need() -> None:
    stage = Stage()
    origin = Origin("lab", "gpt-x", "2026-01-01T00:00:00Z", 12, 4, 830, Usage(3, 5))
    await stage.keep(stage.answer(b'{"a":1}', origin=origin, tags=["provider:lab"]))
    stage.clock.advance(7)
    entry = stage.cache.fresh(stage.ask())
    assert entry is not None and entry.origin == origin and entry.body() == b'{"a":1}'
    assert entry.freshness.age_at(stage.clock.now()) == 7
    assert entry.status == 200 and not entry.is_stream
    stage.clock.advance(53)
    assert stage.cache.fresh(stage.ask()) is None


@on_loop
async def test_a_stream_is_kept_event_for_event() -> None:
    stage = Stage()
    events = [b"data: 1\n\n", b"data: 2\n\n", b"data: [DONE]\n\n"]
    times = Times(stage.clock.now(), stage.clock.now())
    await stage.keep(Answer.of_stream(events, times))
    entry = stage.cache.fresh(stage.ask())
    assert entry is not None and entry.is_stream and entry.stream() == events


@on_loop
async def test_the_client_decides_within_its_rights() -> None:
    stage = Stage()
    await stage.keep(stage.answer(b"1"))
    stage.clock.advance(10)
    assert stage.cache.fresh(stage.ask(wish=Wish(max_age=10))) is not None
    assert stage.cache.fresh(stage.ask(wish=Wish(max_age=9))) is None
    assert stage.cache.fresh(stage.ask(wish=Wish(no_cache=True))) is None
    provider = Provider(stage.clock, lambda: b"2")
    assert await serve(stage.cache, stage.ask(wish=Wish(max_age=9)), provider) == b"2"
    provider.says = lambda: b"3"
    assert await serve(stage.cache, stage.ask(wish=Wish(no_cache=True)), provider) == b"3"
    assert await serve(stage.cache, stage.ask(), provider) == b"3" and provider.asked == 2


@on_loop
async def test_only_if_cached_asks_nobody_and_waits_for_nobody() -> None:
    stage = Stage()
    provider = Provider(stage.clock)
    provider.takes = 0.05
    other = asyncio.create_task(serve(stage.cache, stage.ask(), provider))
    await eventually(lambda: provider.asked)
    async with stage.cache.look(stage.ask(wish=Wish(only_if_cached=True))) as look:
        assert look.entry is None and not look.leads and not other.done()
    await other
    async with stage.cache.look(stage.ask(wish=Wish(only_if_cached=True))) as look:
        assert look.entry is not None


@on_loop
async def test_a_client_that_wants_nothing_stale_gets_nothing_stale() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_if_error=600)
    await stage.keep(stage.answer(b"1"), policy=policy)
    stage.clock.advance(60)
    provider = Provider(stage.clock)
    provider.down = True
    for wish in (Wish(no_cache=True), Wish(max_age=30)):
        with pytest.raises(Unavailable):
            await serve(stage.cache, stage.ask(policy=policy, wish=wish), provider)
    assert await serve(stage.cache, stage.ask(policy=policy), provider) == b"1"
    assert stage.cache.figures.on_error == 1


@on_loop
async def test_a_provider_that_says_it_still_holds_is_asked_for_no_more() -> None:
    stage = Stage()
    headers = {"etag": '"a"', "last-modified": DATE, "cache-control": "max-age=5"}
    await stage.keep(stage.answer(b"1", headers=headers))
    stage.clock.advance(6)
    now = stage.clock.now()
    async with stage.cache.look(stage.ask()) as look:
        assert look.entry is None and look.leads
        assert look.conditional == {"if-none-match": '"a"', "if-modified-since": DATE}
        assert look.still_holds({"etag": '"b"'}, Times(now, now)) is None
        entry = look.still_holds({"cache-control": "max-age=50"}, Times(now, now))
        assert entry is not None and entry.body() == b"1"
    stage.clock.advance(49)
    assert stage.cache.fresh(stage.ask()) is not None
    assert stage.cache.figures.revalidated == 1
    async with stage.cache.look(stage.ask(symbol="NONE")) as look:
        assert look.conditional == {} and look.still_holds({}, Times(now, now)) is None


@on_loop
async def test_what_a_providers_terms_end_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT_AT_ONCE", 2)
    stage = Stage()
    kept = {"etag": '"a"', "cache-control": "max-age=600"}
    terms = CachePolicy(ttl=600, max_retention=60)
    for number in range(5):
        await stage.keep(stage.answer(headers=kept, policy=terms), symbol=f"S{number}")
    await stage.keep(stage.answer(headers=kept), symbol="FREE")
    stage.clock.advance(59)
    async with stage.cache.look(stage.ask(symbol="S0")) as look:
        assert look.entry is not None
    stage.clock.advance(1)
    async with stage.cache.look(stage.ask(symbol="S0")) as look:
        assert look.known is None and look.conditional == {}
    await stage.cache.sweep()
    assert len(stage.cache.memory) == 1
    assert stage.cache.fresh(stage.ask(symbol="FREE")) is not None


@on_loop
async def test_a_304_leaves_the_terms_as_they_were() -> None:
    stage = Stage()
    terms = CachePolicy(ttl=50, max_retention=60)
    house = CachePolicy(ttl=50, stale_if_error=600)
    await stage.keep(stage.answer(headers={"etag": '"a"'}, policy=terms), policy=house)
    stage.clock.advance(55)
    async with stage.cache.look(stage.ask(policy=house)) as look:
        renewed = look.still_holds({}, Times(stage.clock.now(), stage.clock.now()), terms)
    assert renewed is not None and renewed.freshness.usable_for == 50
    stage.clock.advance(60)
    assert await state_of(stage.cache, stage.ask(policy=house)) is State.DEAD


@on_loop
async def test_an_answer_depends_on_what_its_provider_says_it_does() -> None:
    stage = Stage()
    swedish, english = {"accept-language": "sv"}, {"accept-language": "en"}
    headers = {"vary": "Accept-Language"}
    await stage.keep(stage.answer(b"hej", headers=headers), asked_with=swedish)
    assert stage.cache.fresh(stage.ask(asked_with=swedish)) is not None
    for other in (english, {}):
        assert stage.cache.fresh(stage.ask(asked_with=other)) is None
        assert await state_of(stage.cache, stage.ask(asked_with=other)) is State.DEAD
    assert await stage.keep(stage.answer(headers={"vary": "*"})) is None


@on_loop
async def test_equal_calls_that_vary_do_not_share_what_one_of_them_fetched() -> None:
    stage = Stage()
    provider = Provider(stage.clock, lambda: b"%d" % provider.asked)
    provider.takes, provider.headers = 0.01, {"vary": "accept-language"}
    asks = [stage.ask(asked_with={"accept-language": language}) for language in ("sv", "en", "sv")]
    heard = await asyncio.gather(*[serve(stage.cache, asked, provider) for asked in asks])
    assert heard[0] == heard[2] == b"1" and heard[1] == b"2"


@on_loop
async def test_a_ttl_adapts_to_how_often_the_answer_changes() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=60, min_ttl=20, max_ttl=120, adaptive=True)
    spans = []
    for body in (b"1", b"1", b"1", b"1", b"2", b"3", b"4", b"5"):
        entry = await stage.keep(stage.answer(body), policy=policy)
        assert entry is not None
        spans.append(entry.freshness.lifetime)
    assert spans == [60, 90, 120, 120, 60, 30, 20, 20]
    told = stage.answer(b"5", headers={"cache-control": "max-age=33"})
    entry = await stage.keep(told, policy=policy)
    assert entry is not None and entry.freshness.lifetime == 33  # the provider's own word


@on_loop
async def test_that_there_is_nothing_is_kept_briefly() -> None:
    stage = Stage()
    entry = await stage.keep(stage.answer(status=404, empty=True))
    assert entry is not None and entry.freshness.lifetime == 30 and entry.status == 404
    short = CachePolicy(ttl=5)
    entry = await stage.keep(stage.answer(empty=True), policy=short)
    assert entry is not None and entry.freshness.lifetime == 5
    long = CachePolicy(ttl=900, stale_while_revalidate=900, stale_if_error=9000)
    entry = await stage.keep(stage.answer(empty=True), policy=long)
    assert entry is not None and entry.freshness.usable_for == 60
    stage.clock.advance(40)
    async with stage.cache.look(stage.ask(policy=long)) as look:
        now = stage.clock.now()
        entry = look.still_holds({"cache-control": "max-age=900"}, Times(now, now))
    assert entry is not None and entry.freshness.usable_for == 60
    told = {"cache-control": "max-age=86400"}  # as many a framework says on all it serves
    entry = await stage.keep(stage.answer(empty=True, headers=told))
    assert entry is not None and entry.freshness.lifetime == 30


@on_loop
async def test_what_nobody_but_the_client_keeps_is_kept_as_long_as_it_asks() -> None:
    stage = Stage()
    policy = CachePolicy(max_ttl=100)
    for asked, lifetime in ((30, 30), (500, 100)):
        wish = Wish(max_age=asked, no_cache=True)
        entry = await stage.keep(stage.answer(), policy=policy, wish=wish)
        assert entry is not None and entry.freshness.lifetime == lifetime


@on_loop
async def test_what_is_too_large_is_not_kept() -> None:
    stage = Stage()
    assert await stage.keep(stage.answer(b"a" * (MOST_BYTES + 1))) is None
    assert stage.cache.figures.not_kept == 1 and len(stage.cache.memory) == 0


@on_loop
async def test_what_compression_saves_is_counted() -> None:
    stage = Stage()
    body = b'{"symbol":"AAPL","price":"1.5"}' * 200
    await stage.keep(stage.answer(body))
    figures = stage.cache.figures
    assert figures.stored_bytes + figures.saved_bytes == len(body) + 1
    assert figures.saved_bytes > 0.9 * len(body)
    assert stage.cache.memory.size < len(body)


@on_loop
async def test_a_refresh_that_runs_is_called_off_when_the_worker_stops() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_while_revalidate=60)
    await stage.keep(stage.answer(), policy=policy)
    stage.clock.advance(15)
    cancelled = asyncio.Event()

    async def fetch(look: Look) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with stage.cache.look(stage.ask(policy=policy)) as look:
        assert look.entry is not None and look.state is State.WHILE_REVALIDATING
        look.refresh(fetch)
        assert not look.leads
    await asyncio.sleep(0)
    await stage.cache.close()
    assert cancelled.is_set() and len(stage.cache.flights) == 0


@on_loop
async def test_a_refresh_that_breaks_is_nobodys_error(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_while_revalidate=60)
    await stage.keep(stage.answer(), policy=policy)
    stage.clock.advance(15)

    async def fetch(look: Look) -> None:
        raise RuntimeError("broken")

    async with stage.cache.look(stage.ask(policy=policy)) as look:
        look.refresh(fetch)
    await eventually(lambda: not stage.cache.behind)
    assert len(stage.cache.flights) == 0


@on_loop
async def test_an_invalidation_forgets_what_it_names_and_nothing_else() -> None:
    stage = Stage()
    for symbol in ("A", "B"):
        await stage.keep(stage.answer(tags=["provider:lab"]), symbol=symbol)
    await stage.cache.invalidate(["symbol:A"])
    assert stage.cache.fresh(stage.ask(symbol="A")) is None
    assert stage.cache.fresh(stage.ask(symbol="B")) is not None
    await stage.cache.invalidate(["provider:lab"])
    assert stage.cache.fresh(stage.ask(symbol="B")) is None
    await stage.keep(stage.answer(), symbol="C")
    await stage.cache.invalidate_all()
    assert stage.cache.fresh(stage.ask(symbol="C")) is None and len(stage.cache.memory) == 0


@on_loop
async def test_a_stale_answer_that_was_invalidated_saves_no_day() -> None:
    stage = Stage()
    policy = CachePolicy(ttl=10, stale_if_error=600)
    await stage.keep(stage.answer(), policy=policy)
    stage.clock.advance(60)
    async with stage.cache.look(stage.ask(policy=policy)) as look:
        assert look.spare is not None
        await stage.cache.invalidate(["symbol:AAPL"])
        assert look.failed(Unavailable()) is None


@on_loop
async def test_one_invalidation_costs_the_same_however_many_have_the_tag() -> None:
    stage = Stage()
    spans = []
    for count in (10, 3000):
        for number in range(count):
            await stage.keep(stage.answer(tags=["provider:lab"]), symbol=f"S{number}")
        best = 1.0
        for _ in range(50):
            begun = time.thread_time()
            await stage.cache.invalidate(["provider:lab"])
            best = min(best, time.thread_time() - begun)
        spans.append(best)
    assert spans[1] < 3 * spans[0]
