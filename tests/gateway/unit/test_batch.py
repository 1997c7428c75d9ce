"""Many data operations in one request: each a call of its own, and no trouble of another's."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.call import UpstreamRequest
from tenants.limits import RateLimit, Scope
from tests.gateway.unit.rig import (
    FOREVER,
    Client,
    Reply,
    Rig,
    data_target,
    failure,
    nothing_runs,
    route,
    whole,
)
from tests.loops import eventually, on_loop

BATCH = "/api/v1/batch"
GEO = "geo.geocode"
FX = "finance.fx_rate"


def places(request: UpstreamRequest) -> Reply:
    """A place called as the request says."""
    name = parse_qs(urlsplit(request.url).query)["name"][0]
    return whole({"results": [{"name": name, "latitude": 59.3, "longitude": 18.1}]})


def rates() -> Reply:
    rates = {"SEK": 11.5, "USD": 1.1}
    told = {"result": "success", "base_code": "EUR", "time_last_update_unix": 1_800_000_000}
    return whole({**told, "rates": rates})


@pytest.fixture(autouse=True)
def served(rig: Rig) -> Rig:
    rig.serve(
        route(data_target("open-meteo-geocoding"), operation=GEO, name=GEO),
        route(data_target("open-er-api"), operation=FX, name=FX),
    )
    rig.upstreams.script = lambda request: (
        rates() if "open-er-api" in request.url else places(request)
    )
    return rig


def find(q: str, **params: Any) -> dict[str, Any]:
    return {"operation": GEO, "params": {"q": q, **params}}


def rate(quote: str) -> dict[str, Any]:
    return {"operation": FX, "params": {"base": "EUR", "quote": quote}}


async def batch(rig: Rig, *requests: Any, **more: Any) -> Client:
    return await rig.ask(BATCH, body={"requests": list(requests)}, **more)


@on_loop
async def test_answers_come_in_the_order_of_the_requests(rig: Rig) -> None:
    names = [f"Place {n}" for n in range(30)]
    client = await batch(rig, *(find(name) for name in names), rate("SEK"))
    assert client.status == 200
    data = client.json["data"]
    assert [item["index"] for item in data] == list(range(31))
    assert {item["status"] for item in data} == {200}
    assert [item["body"]["data"][0]["name"] for item in data[:30]] == names
    assert data[30]["body"]["data"]["rate"] == "11.5"
    assert client.json["meta"]["request_id"] == client.headers["x-request-id"]
    assert await nothing_runs()


@on_loop
async def test_each_is_a_call_with_its_own_id_row_and_limit(rig: Rig) -> None:
    client = await batch(rig, find("a"), find("b"), rate("SEK"))
    ids = [item["body"]["meta"]["request_id"] for item in client.json["data"]]
    assert len({*ids, client.headers["x-request-id"]}) == 4
    records = {final.record.request_id: final.record for final in rig.journal.finals}
    assert records.keys() == set(ids)
    assert [records[i].operation for i in ids] == [GEO, GEO, FX]


@on_loop
async def test_the_same_answer_as_alone(rig: Rig) -> None:
    alone = await rig.ask("/api/v1/geo/geocode?q=Upp%20sala%26&limit=3&include=extra")
    client = await batch(rig, find("Upp sala&", limit=3, include="extra"))
    (item,), expected = client.json["data"], alone.json
    for body in (item["body"], expected):
        del body["meta"]["request_id"]
    assert item == {"index": 0, "status": 200, "body": expected}
    one, other = (request.url for request in rig.upstreams.sent)
    assert one == other


@on_loop
async def test_one_items_problem_is_its_own(rig: Rig) -> None:
    def fails_for_b(request: UpstreamRequest) -> Reply:
        return failure() if "name=b" in request.url else places(request)

    rig.upstreams.script = fails_for_b
    client = await batch(
        rig,
        find("a"),
        find("b"),
        {"operation": GEO},
        {"operation": "finance.astrology"},
        {"operation": "chat.completions", "params": {"model": "m"}},
        find("c", limit="many"),
        find("d", nonsense=True),
        find("e", provider="nobody"),
        find("f"),
    )
    assert client.status == 200
    told = [(item["status"], item["body"].get("code")) for item in client.json["data"]]
    assert told == [
        (200, None),
        (503, "provider_unavailable"),
        (400, "invalid_request"),
        (404, "not_found"),
        (404, "not_found"),
        (400, "invalid_request"),
        (400, "invalid_request"),
        (400, "invalid_request"),
        (200, None),
    ]
    missing = client.json["data"][2]["body"]
    assert missing["errors"] == [{"detail": "This is required.", "pointer": "/q"}]
    assert all(item["body"].get("request_id", "-") for item in client.json["data"])


@on_loop
async def test_a_limit_refuses_only_what_is_over_it(rig: Rig) -> None:
    key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 3, 60),))
    client = await batch(rig, *(find(str(n)) for n in range(5)), key=key)
    assert [item["status"] for item in client.json["data"]] == [200, 200, 200, 429, 429]
    assert client.json["data"][4]["body"]["reset_seconds"] > 0
    assert len(rig.upstreams.sent) == 3


@on_loop
async def test_scopes_hold_for_each(rig: Rig) -> None:
    key = rig.callers.add(scopes=frozenset({"geo.*"}))
    client = await batch(rig, rate("SEK"), find("a"), key=key)
    first, second = client.json["data"]
    assert (first["status"], first["body"]["code"]) == (403, "insufficient_scope")
    assert second["status"] == 200


@on_loop
async def test_never_more_than_ten_at_once_and_never_waiting_in_line(rig: Rig) -> None:
    running, most = 0, 0

    class Slow(Reply):
        async def read(self) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(5):
                await asyncio.sleep(0)
            running -= 1
            return await Reply.read(self)

    rig.upstreams.script = lambda request: Slow(places(request).parts)
    client = await batch(rig, *(find(str(n)) for n in range(50)))
    assert {item["status"] for item in client.json["data"]} == {200}
    assert most == 10


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "/requests"),
    "no requests": ({"requests": []}, "/requests"),
    "too many": ({"requests": [find("a")] * 51}, "/requests"),
    "no list": ({"requests": find("a")}, "/requests"),
    "no object": ({"requests": ["geo.geocode"]}, "/requests/0"),
    "no operation": ({"requests": [{"params": {}}]}, "/requests/0/operation"),
    "params is a list": ({"requests": [{"operation": GEO, "params": []}]}, "/requests/0/params"),
    "a list": ({"requests": [find("a"), find(["b"])]}, "/requests/1/params/q"),  # type: ignore[arg-type]
    "null": ({"requests": [find(None)]}, "/requests/0/params/q"),  # type: ignore[arg-type]
    "something else": ({"requests": [find("a")], "mode": "fast"}, "/mode"),
    "something else within": ({"requests": [{**find("a"), "id": 1}]}, "/requests/0/id"),
}


@pytest.mark.parametrize(("body", "pointer"), WRONG.values(), ids=WRONG.keys())
@on_loop
async def test_a_body_of_another_form_is_refused_as_a_whole(
    rig: Rig, body: Any, pointer: str
) -> None:
    client = await rig.ask(BATCH, body=body)
    assert (client.status, client.json["code"]) == (400, "invalid_request")
    assert client.headers["content-type"] == "application/problem+json"
    assert client.json["errors"][0]["pointer"] == pointer
    assert rig.upstreams.sent == []
    assert rig.journal.entries == []


@on_loop
async def test_the_caller_is_known_before_the_body_is_read(rig: Rig) -> None:
    client = await batch(rig, find("a"), key="pb_live_junk")
    assert (client.status, client.json["code"]) == (401, "unauthenticated")
    assert client.received == 0


@on_loop
async def test_only_post(rig: Rig) -> None:
    client = await rig.ask(BATCH, method="GET")
    assert (client.status, client.json["code"]) == (405, "method_not_allowed")
    assert client.headers["allow"] == "POST"
    assert (await rig.ask("/api/batch", body={"requests": [find("a")]})).status == 200


@on_loop
async def test_who_leaves_sets_every_provider_free(rig: Rig) -> None:
    rig.upstreams.script = lambda request: Reply([FOREVER])
    body = {"requests": [find(str(n)) for n in range(30)]}
    client = rig.client(json.dumps(body).encode())
    asked = asyncio.create_task(rig.run(client, BATCH))
    await eventually(lambda: len(rig.upstreams.replies) == 10)
    client.gone.set()
    await asked
    await rig.settled()
    assert client.messages == []
    assert len(rig.upstreams.sent) == 10
    assert all(reply.closed for reply in rig.upstreams.replies)
    assert [final.record.code for final in rig.journal.finals] == ["hung_up"] * 10
    assert await nothing_runs()


@on_loop
@pytest.mark.unmeasured
async def test_leaving_at_every_step_leaves_as_many_rows_as_calls(rig: Rig) -> None:
    await batch(rig, find("a"))
    for steps in range(0, 80, 3):
        rig.journal.entries.clear()
        rig.upstreams.sent.clear()
        client = rig.client(json.dumps({"requests": [find(str(n)) for n in range(12)]}).encode())
        asked = asyncio.create_task(rig.run(client, BATCH))
        for _ in range(steps):
            await asyncio.sleep(0)
        client.gone.set()
        await asked
        await rig.settled()
        assert len(rig.journal.finals) == len(rig.upstreams.sent)
        assert all(reply.closed for reply in rig.upstreams.replies)
