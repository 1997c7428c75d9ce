"""From the provider's bytes to the client's and the ledger's: what breaks off never looks like
success, and nothing leaves before it is accounted for."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import pytest

from billing.book import PriceBook, PriceVersion
from lib.money import marked_up
from providers.call import Verdict
from providers.prices import Prices
from providers.transport import TransportFault
from tenants.keys import Mode
from tests.gateway.unit.rig import (
    COUNT,
    DONE,
    FOREVER,
    WHOLE_STREAM,
    Part,
    Rig,
    chat,
    data_target,
    event,
    route,
    stream,
    target,
    whole,
)
from tests.loops import eventually, on_loop
from usage import ledger as ledger_module

LONG = "x" * 400  # 100 tokens' worth


def lost() -> Exception:
    return TransportFault(Verdict.UNREACHABLE, "the answer was cut off")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.05)


@on_loop
async def test_a_whole_answer_is_billed_to_the_digit(rig: Rig) -> None:
    client = await rig.chat()
    record = rig.final.record
    assert client.json["choices"][0]["message"]["content"] == "hello back"
    assert record.charge == record.cost == 7 * 1 + 3 * 2
    assert client.headers["x-patchbay-cost-microusd"] == "13"
    assert client.headers["content-length"] == str(len(client.body))
    assert (record.input_tokens, record.output_tokens, record.estimate) == (7, 3, "")
    assert (record.status, record.code, record.streamed) == (200, "ok", False)
    assert rig.journal.opened == []


@on_loop
async def test_test_mode_is_free_but_counted(rig: Rig) -> None:
    client = await rig.chat(key=rig.callers.add(mode=Mode.TEST))
    assert client.headers["x-patchbay-cost-microusd"] == "0"
    record = rig.final.record
    assert (record.mode, record.charge, record.cost, record.output_tokens) == ("test", 0, 0, 3)


@on_loop
async def test_a_stream_opens_its_row_first_and_closes_it_last(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}')
    opened_at_the_head: list[int] = []
    client.on_message = lambda message: opened_at_the_head.append(len(rig.journal.opened))
    await rig.run(client)
    assert opened_at_the_head[0] == 1
    assert client.rows_at_the_end == 1
    final = rig.final
    assert final.was_open
    assert final.record.streamed
    assert final.record.charge == 13
    (opened,) = rig.journal.opened
    assert opened.expires_at > rig.clock.now()
    assert (opened.record.provider, opened.record.model) == ("lab", "gpt-x")
    assert client.headers["cache-control"] == "no-cache"
    assert client.headers["x-accel-buffering"] == "no"
    assert client.headers["x-patchbay-provider"] == "lab"
    assert "content-length" not in client.headers


@on_loop
async def test_the_usage_chunk_is_for_who_asked(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    without = await rig.chat(stream=True)
    assert b'"usage":{' not in without.body.replace(b" ", b"")
    asked = await rig.chat(stream=True, stream_options={"include_usage": True})
    last = asked.body.removesuffix(DONE).strip().rsplit(b"data: ", 1)[1]
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"]["total_tokens"] == COUNT["total_tokens"]


@on_loop
async def test_a_stream_cut_anywhere_says_the_same(rig: Rig) -> None:
    whole_body = b"".join(WHOLE_STREAM)
    for size in (1, 2, 3, 7, 50):
        parts = [whole_body[n : n + size] for n in range(0, len(whole_body), size)]
        rig.upstreams.script = lambda request, parts=parts: stream(*parts)  # type: ignore[misc]
        client = await rig.chat(stream=True)
        assert client.text == "hello back"
        assert client.body.endswith(DONE)


@on_loop
@pytest.mark.parametrize("events", [1, 2, 3, 4])
async def test_that_it_ended_well_is_said_last(rig: Rig, events: int) -> None:
    """A stream that breaks off after its finish was told, but before its end, never told it."""
    rig.upstreams.script = lambda request: stream(*WHOLE_STREAM[:events], lost())
    client = await rig.chat(stream=True)
    assert b'"finish_reason": "stop"' not in client.body
    assert client.text == ("hello back" if events > 1 else "hello ")
    assert rig.final.record.code == "stream_cut"


@on_loop
async def test_nobody_hears_of_the_end_before_the_row_is_durable(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    rig.journal.turns = 5
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}')
    rows_at_the_finish: list[int] = []

    def look(message: dict[str, Any]) -> None:
        if b'"finish_reason": "stop"' in message.get("body", b""):
            rows_at_the_finish.append(len(rig.journal.finals))

    client.on_message = look
    await rig.run(client)
    assert rows_at_the_finish == [1]
    assert client.body.endswith(DONE)


@on_loop
async def test_a_text_that_looks_like_an_end_is_none(rig: Rig) -> None:
    said = '"finish_reason": "stop"'
    rig.upstreams.script = lambda request: stream(event(said), FOREVER)
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}')
    task = asyncio.create_task(rig.run(client))
    await eventually(lambda: len(client.messages) > 1)
    assert client.text == said
    client.gone.set()
    await task


@on_loop
async def test_a_quiet_stream_is_kept_open_by_comments(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.relay.QUIET.seconds", 0.01)
    rig.upstreams.script = lambda request: stream(event("hello "), FOREVER)
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}')
    task = asyncio.create_task(rig.run(client))
    await eventually(lambda: client.body.count(b": keep-alive\n\n") >= 3)
    assert client.body.startswith(b"data: ")
    client.gone.set()
    await task
    seen = client.body
    await asyncio.sleep(0.03)
    assert client.body == seen


@on_loop
async def test_what_comes_after_the_end_is_not_waited_for(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(*WHOLE_STREAM, FOREVER)
    client = await rig.chat(stream=True)
    assert client.body.endswith(DONE)
    assert rig.upstreams.replies[0].closed


BROKEN: dict[str, list[Part]] = {
    "cut off": [event(LONG), lost()],
    "just ended": [event(LONG)],
    "ended after its finish": [event(LONG), event()],
    "an error event": [event(LONG), b'data: {"error": {"message": "overloaded"}}\n\n'],
    "garbage": [event(LONG), b"data: {{{\n\n"],
    "half an event": [event(LONG), event("more")[:20]],
}


@pytest.mark.parametrize("parts", BROKEN.values(), ids=BROKEN.keys())
@on_loop
async def test_a_broken_stream_never_looks_like_success(rig: Rig, parts: list[Part]) -> None:
    rig.upstreams.script = lambda request: stream(*parts)
    client = await rig.chat(stream=True)
    assert client.status == 200
    assert client.ended
    assert b"[DONE]" not in client.body
    last = json.loads(client.body.strip().rsplit(b"data: ", 1)[1])
    assert last["error"]["code"] == "upstream_rejected"
    assert last["error"]["request_id"] == client.headers["x-request-id"]
    assert client.rows_at_the_end == 1
    record = rig.final.record
    assert (record.code, record.estimate) == ("stream_cut", "cut")
    assert record.output_tokens >= 100
    assert record.charge >= 100 * 2
    assert rig.upstreams.replies[0].closed


@on_loop
async def test_a_cut_bills_no_less_than_the_provider_told(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(event("hi"), event(usage=COUNT), lost())
    await rig.chat(stream=True)
    record = rig.final.record
    assert (record.input_tokens, record.output_tokens, record.estimate) == (7, 3, "cut")


@on_loop
async def test_the_deadline_holds_in_the_middle_of_a_stream(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(event(LONG), FOREVER)
    client = await rig.chat(stream=True, headers={"X-Patchbay-Deadline-Ms": "40"})
    assert b"[DONE]" not in client.body
    assert b'"code":"deadline_exceeded"' in client.body
    assert rig.final.record.code == "stream_cut"
    assert rig.upstreams.replies[0].closed


@on_loop
async def test_usage_that_was_not_told_is_estimated_and_flagged(rig: Rig) -> None:
    rig.upstreams.script = lambda request: chat(LONG, usage={})
    await rig.chat()
    record = rig.final.record
    assert record.estimate == "not_told"
    assert record.output_tokens >= 100
    assert record.input_tokens > 0


@on_loop
async def test_usage_that_was_not_told_by_a_stream(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream(event(LONG), event(), DONE)
    client = await rig.chat(stream=True)
    assert client.body.endswith(DONE)
    record = rig.final.record
    assert (record.code, record.estimate) == ("ok", "not_told")
    assert record.output_tokens >= 100


@pytest.mark.usefixtures("impatient")
@on_loop
async def test_no_row_no_answer(rig: Rig) -> None:
    rig.journal.away = True
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (503, "store_unavailable")
    assert int(client.headers["retry-after"]) > 0
    assert b"hello back" not in client.body
    assert rig.upstreams.replies[0].closed


@pytest.mark.usefixtures("impatient")
@on_loop
async def test_no_open_row_no_first_byte(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    rig.journal.away = True
    client = await rig.chat(stream=True)
    assert (client.status, client.error["code"]) == (503, "store_unavailable")
    assert client.headers["content-type"] == "application/json"
    assert rig.upstreams.replies[0].closed


@pytest.mark.usefixtures("impatient")
@on_loop
async def test_what_was_refused_for_the_stores_sake_is_not_billed_at_its_worst(rig: Rig) -> None:
    """The database comes back between the open row, given up, and the final one."""
    rig.upstreams.script = lambda request: stream()
    rig.journal.away = True
    asked = asyncio.create_task(rig.chat(stream=True))
    await eventually(lambda: rig.upstreams.replies)
    await asyncio.sleep(0.06)
    rig.journal.away = False
    assert (await asked).status == 503
    await rig.settled()
    for final in rig.journal.finals:
        assert final.record.status == 503
        assert final.record.output_tokens < 50


@pytest.mark.usefixtures("impatient")
@on_loop
async def test_a_store_lost_within_a_stream_ends_it_as_an_error(rig: Rig) -> None:
    rig.upstreams.script = lambda request: stream()
    client = rig.client(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}')

    def loses(message: dict[str, Any]) -> None:
        rig.journal.away = True

    client.on_message = loses
    await rig.run(client)
    assert client.status == 200
    assert b"[DONE]" not in client.body
    assert b'"code":"store_unavailable"' in client.body
    assert client.ended
    assert rig.upstreams.replies[0].closed


@on_loop
async def test_a_list_has_a_page_and_says_whence_it_is(rig: Rig) -> None:
    rig.serve(
        route(data_target("open-meteo-geocoding"), operation="geo.geocode", name="geo.geocode")
    )
    place = {"name": "Stockholm", "admin1": "Stockholm", "country": "Sweden"}
    found = {"results": [{**place, "latitude": 59.33, "longitude": 18.07}], "generationtime_ms": 1}
    rig.upstreams.script = lambda request: whole(found)
    client = await rig.ask("/api/v1/geo/geocode?q=Stockholm")
    assert client.status == 200, client.body
    body = client.json
    assert body["data"][0]["name"] == "Stockholm"
    assert body["page"].keys() == {"total", "limit", "next_cursor"}
    meta = body["meta"]
    assert meta["attribution"][0]["text"]
    assert meta["as_of"].endswith("Z")
    assert meta["request_id"] == client.headers["x-request-id"]
    assert [a["outcome"] for a in meta["attempts"]] == ["ok"]
    assert (meta["cached"], meta["stale"]) == (False, False)
    assert "extra" not in body["data"][0]


@on_loop
async def test_one_thing_has_no_page_and_its_own_age(rig: Rig) -> None:
    rig.serve(
        route(data_target("open-er-api"), operation="finance.fx_rate", name="finance.fx_rate")
    )
    rates = {
        "result": "success",
        "base_code": "EUR",
        "time_last_update_unix": 1_800_000_000,
        "rates": {"SEK": 11.5},
    }
    rig.upstreams.script = lambda request: whole(rates)
    client = await rig.ask("/api/v1/finance/fx_rate?base=EUR&quote=SEK")
    assert client.json["data"]["rate"] == "11.5"
    assert "page" not in client.json
    assert client.json["meta"]["as_of"] == "2027-01-15T08:00:00Z"
    assert rig.final.record.units == 1


@on_loop
async def test_extra_fields_only_for_who_asks(rig: Rig) -> None:
    rig.serve(
        route(data_target("open-meteo-geocoding"), operation="geo.geocode", name="geo.geocode")
    )
    place = {"name": "Stockholm", "latitude": 59.33, "longitude": 18.07, "population": 975551}
    rig.upstreams.script = lambda request: whole({"results": [place]})
    client = await rig.ask("/api/v1/geo/geocode?q=Stockholm&include=extra")
    assert client.json["data"][0]["extra"]["population"] == 975551


@on_loop
async def test_each_call_has_its_own_price(rig: Rig) -> None:
    dear, unknown = target("dear"), target("unknown", "gpt-u")
    prices = {"dear/gpt-x": Prices(50_000_000, 100_000_000), "unknown/gpt-u": Prices()}
    rig.serve(route(dear, name="dear"), route(unknown, name="unknown"), prices=prices)
    assert (await rig.chat(model="dear")).headers["x-patchbay-cost-microusd"] == "650"
    assert (await rig.chat(model="unknown")).headers["x-patchbay-cost-microusd"] == "0"
    assert [final.record.price_id for final in rig.journal.finals] == [1, None]


@pytest.mark.parametrize(
    ("markup", "charge"), [(0, 13), (1250, 15), (1, 14), (-5000, 7), (-10_000, 0)]
)
@pytest.mark.parametrize("streamed", [False, True])
@on_loop
async def test_the_plans_markup_is_on_the_charge_and_not_on_the_cost(
    rig: Rig, markup: int, charge: int, streamed: bool
) -> None:
    if streamed:
        rig.upstreams.script = lambda request: stream()
    await rig.chat(key=rig.callers.add(markup=markup), stream=streamed)
    record = rig.final.record
    assert (record.cost, record.charge, record.markup, record.price_id) == (13, charge, markup, 1)
    for opened in rig.journal.opened:
        assert opened.record.price_id == 1
        assert opened.record.charge == marked_up(opened.record.cost, markup)


@on_loop
async def test_test_mode_is_free_at_any_markup(rig: Rig) -> None:
    await rig.chat(key=rig.callers.add(mode=Mode.TEST, markup=5000))
    record = rig.final.record
    assert (record.cost, record.charge, record.price_id) == (0, 0, None)


@pytest.mark.parametrize(("early", "price"), [(1e-6, 1), (0, 2), (-1e-6, 2)])
@on_loop
async def test_a_price_takes_effect_by_itself_at_its_moment(
    rig: Rig, early: float, price: int
) -> None:
    moment = dt.datetime(2027, 3, 1, 12, 0, 0, 123_457, tzinfo=dt.UTC).timestamp()
    of = ("lab", "gpt-x", "")
    rig.gateway.live.prices = PriceBook(
        [
            (of, PriceVersion(2, Prices(2_000_000, 0), moment)),
            (of, PriceVersion(1, Prices(1_000_000, 0))),
        ]
    )
    rig.clock._now = moment - early
    await rig.chat()
    record = rig.final.record
    assert (record.price_id, record.cost) == (price, price * 7)


@on_loop
async def test_a_call_keeps_the_price_it_came_at(rig: Rig) -> None:
    """Not the one that has come into force, or was loaded, before its answer."""
    of = ("lab", "gpt-x", "")
    first = (of, PriceVersion(1, Prices(1_000_000, 0)))
    later = (of, PriceVersion(2, Prices(2_000_000, 0), rig.clock.now() + 1))
    rig.gateway.live.prices = PriceBook([first, later])

    def slow(request: Any) -> Any:
        rig.clock.advance(2)
        rig.gateway.live.prices = PriceBook([(of, PriceVersion(3, Prices(3_000_000, 0)))])
        return chat()

    rig.upstreams.script = slow
    await rig.chat()
    assert rig.final.record.price_id == 1
