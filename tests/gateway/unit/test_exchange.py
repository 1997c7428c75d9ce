"""What comes in is bounded before it is kept, and one answer goes out, whatever happens."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import json
import random
from collections.abc import Callable

import pytest

from gateway.exchange import MAX_HEADER_BYTES, parse_object
from gateway.paths import find
from lib.problems import InvalidRequest
from providers.call import UpstreamRequest
from tests.gateway.unit.rig import CHAT, HELLO, WHOLE_STREAM, Client, Reply, Rig, chat, stream
from tests.loops import eventually, on_loop

BODY = json.dumps({"model": "m", "messages": HELLO}).encode()


def in_parts(body: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.choices(range(len(body) + 1), k=chance.randrange(6)))
    return [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]


@on_loop
async def test_a_body_is_the_same_however_it_comes(rig: Rig) -> None:
    for seed in range(50):
        client = await rig.run(rig.client(*in_parts(BODY, random.Random(seed))))
        assert client.status == 200
        assert json.loads(rig.upstreams.sent[-1].body or b"") == {
            "model": "gpt-x",
            "messages": HELLO,
        }


@on_loop
async def test_who_leaves_while_sending_gets_nothing_and_costs_nothing(rig: Rig) -> None:
    client = rig.client(BODY[:10], BODY[10:20])
    client.more_would_come = True
    asked = asyncio.create_task(rig.run(client))
    await eventually(lambda: client.received == 2)
    client.gone.set()
    await asked
    assert client.messages == []
    assert rig.journal.entries == []
    assert rig.upstreams.sent == []


@on_loop
async def test_no_cache_on_the_way_keeps_what_is_its_callers(rig: Rig) -> None:
    """Varnish, say, would: for X-API-Key it knows no rule as it does for Authorization."""
    for path in ("/api/v1/models", "/api/v1/models/none", "/api/v1/finance/quote?symbol=A"):
        client = await rig.ask(path, method="GET")
        assert client.headers["cache-control"] == "private, no-cache", path
    assert "cache-control" not in (await rig.ask()).headers


class Endless(Client):
    """Never stops sending."""

    async def receive(self) -> dict[str, object]:
        self.received += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}


@on_loop
async def test_reading_stops_at_the_limit(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_body_bytes=5000)
    client = await rig.run(Endless())
    assert (client.status, client.error["code"]) == (413, "payload_too_large")
    assert client.received == 6


@on_loop
async def test_a_body_of_just_the_limit_is_taken(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_body_bytes=len(BODY))
    assert (await rig.run(rig.client(BODY))).status == 200
    assert (await rig.run(rig.client(BODY + b" "))).status == 413


@on_loop
async def test_a_length_that_is_too_large_is_refused_unread(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(max_body_bytes=5000)
    client = await rig.run(rig.client(BODY), headers={"content-length": "5001"})
    assert client.status == 413
    assert client.received == 0


@pytest.mark.parametrize("length", ["many", "-1", "1e9", "²"])
@on_loop
async def test_a_length_that_is_none_decides_nothing(rig: Rig, length: str) -> None:
    client = await rig.run(rig.client(BODY), headers={"content-length": length})
    assert client.status == 200


KINDS = {
    "application/json": 200,
    "Application/JSON; charset=utf-8": 200,
    "application/json ; x=y": 200,
    "text/json": 415,
    "application/jsonp": 415,
    "multipart/form-data": 415,
    "": 415,
}


@pytest.mark.parametrize(("kind", "status"), KINDS.items())
@on_loop
async def test_content_types(rig: Rig, kind: str, status: int) -> None:
    assert (await rig.run(rig.client(BODY), headers={"content-type": kind})).status == status


@pytest.mark.parametrize(("encoding", "status"), {"identity": 200, "GZIP": 415, "br": 415}.items())
@on_loop
async def test_content_encodings(rig: Rig, encoding: str, status: int) -> None:
    client = await rig.run(rig.client(BODY), headers={"content-encoding": encoding})
    assert client.status == status


@on_loop
async def test_headers_are_counted_in_all(rig: Rig) -> None:
    own = len("x-api-key") + len(rig.key)
    one = {"x-pad": "x" * (MAX_HEADER_BYTES - own - len("x-pad"))}
    assert (await rig.chat(headers=one)).status == 200
    many = [(f"x-{n:04}", "y" * 100) for n in range(320)]
    refused = await rig.chat(headers=many)
    assert (refused.status, refused.error["code"]) == (431, "headers_too_large")


HOPS = [
    # proxies, X-Forwarded-For as it came, whether 198.51.100.9 is taken for the client's address
    (0, ["198.51.100.9"], False),
    (0, [], False),
    (1, ["198.51.100.9"], True),
    (1, ["203.0.113.1, 198.51.100.9"], True),
    (1, ["198.51.100.9, 203.0.113.1"], False),
    (1, ["203.0.113.1", "198.51.100.9"], True),
    (1, [], False),
    (1, ["198.51.100.9:4711"], True),
    (1, ["unknown"], False),
    (2, ["198.51.100.9, 10.0.0.1"], True),
    (2, ["198.51.100.9", "10.0.0.1"], True),
    (2, ["203.0.113.1, 198.51.100.9, 10.0.0.1"], True),
    (2, ["198.51.100.9, 203.0.113.1, 10.0.0.1"], False),
    (2, ["198.51.100.9"], False),
]


@pytest.mark.parametrize(("hops", "forwarded", "believed"), HOPS)
@on_loop
async def test_only_our_own_proxies_say_who_calls(
    make_rig: Callable[..., Rig], hops: int, forwarded: list[str], believed: bool
) -> None:
    rig = make_rig(proxy_hops=hops)
    fenced = rig.callers.add(networks=(ipaddress.ip_network("198.51.100.0/24"),))
    headers = [("X-Forwarded-For", value) for value in forwarded]
    client = await rig.chat(key=fenced, headers=headers, peer="10.9.9.9")
    assert client.status == (200 if believed else 403)


BODIES = {
    b"": "empty",
    b"{": "line 1",
    b'{"x": NaN}': "not valid JSON",
    b'{"x": "\\ud800"}': "not valid JSON",
    b'{"x": "\xff"}': "not valid JSON",
    b"[1]": "object",
    b"null": "object",
    b'"{}"': "object",
}


@pytest.mark.parametrize(("body", "words"), BODIES.items())
def test_what_is_no_json_object(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_object(body)


def test_nesting_is_bounded_to_the_level() -> None:
    assert parse_object(b'{"x":' * 100 + b"1" + b"}" * 100)
    assert parse_object(b'{"x": [' + b"[]," * 500 + b"[]]}")
    for opening, closing in ((b'{"x":', b"}"), (b'{"x":[', b"]}")):
        with pytest.raises(InvalidRequest, match="nested deeper"):
            parse_object(opening * 101 + b"1" + closing * 101)


QUERIES = {"q=%ff": 400, "&".join(f"a{n}=1" for n in range(101)): 400, "q=\xe9": 400}


@pytest.mark.parametrize(("query", "status"), QUERIES.items())
@on_loop
async def test_queries(rig: Rig, query: str, status: int) -> None:
    client = await rig.ask(f"/api/v1/geo/geocode?{query}")
    assert (client.status, client.error["code"]) == (status, "invalid_request")
    assert client.headers["content-type"] == "application/problem+json"


class Boom(Exception):
    pass


@on_loop
async def test_an_error_of_our_own_tells_nothing(rig: Rig) -> None:
    rig.upstreams.script = lambda request: Boom("pw-canary")
    client = await rig.chat()
    assert (client.status, client.error["code"]) == (500, "internal_error")
    assert b"canary" not in client.body
    assert b"Boom" not in client.body
    final = rig.final.record
    assert (final.status, final.code) == (500, "internal_error")


@on_loop
async def test_an_error_of_our_own_within_a_stream_ends_it_as_an_error(rig: Rig) -> None:
    broken = stream(*WHOLE_STREAM[:2], Boom("pw-canary"))
    rig.upstreams.script = lambda request: broken
    client = await rig.chat(stream=True)
    assert client.status == 200
    assert client.ended
    assert b"canary" not in client.body
    assert b"[DONE]" not in client.body
    assert b'"code":"internal_error"' in client.body
    assert broken.closed
    assert rig.final.record.code == "internal_error"


@on_loop
async def test_server_timing_tells_ours_from_the_upstreams(rig: Rig) -> None:
    def slow(request: UpstreamRequest) -> Reply:
        rig.clock.advance(0.25)
        return chat()

    rig.upstreams.script = slow
    client = await rig.chat()
    parts = dict(part.split(";dur=") for part in client.headers["server-timing"].split(", "))
    assert float(parts["upstream"]) == pytest.approx(250, abs=1)
    assert float(parts["gateway"]) == pytest.approx(0, abs=1)


@on_loop
async def test_the_wrong_method_is_refused_before_all_else(rig: Rig) -> None:
    client = await rig.ask(method="PUT", key=None)
    assert (client.status, client.headers["allow"]) == (405, "POST")
    assert client.received == 0


def test_only_the_data_paths_own_paths_have_doors() -> None:
    assert find("/api/v1/nothing") is None
    assert find("/api/v1/modelsx") is None
    door = find("/api/models/lab/gpt-x")
    assert door is not None
    assert (door.name, door.argument) == ("models", "lab/gpt-x")
    assert find("/api/chat") is find(CHAT)
