"""Cursors of lists: whose they are, where they lead, and that nobody else can make one."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cursors import Cursors
from lib.problems import InvalidRequest
from providers.call import UpstreamRequest
from tests.gateway.unit.rig import Reply, Rig, data_target, failure, route, whole
from tests.loops import on_loop

ART = "images.art_search"
ASK = "/api/v1/images/art_search?q=hokusai"
CURSORS = Cursors(b"one secret")


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_what_was_sealed_opens_everywhere_alike(provider: str, position: str) -> None:
    sealed = CURSORS.seal(ART, provider, position)
    assert Cursors(b"one secret").open(ART, sealed) == (provider, position)
    assert CURSORS.seal(ART, provider, position) == sealed


@given(st.integers(0, 200), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_changed_cursor_does_not_open(place: int, change: int) -> None:
    sealed = CURSORS.seal(ART, "artic", "[10,0,10]")
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    raw[place % len(raw)] ^= change
    with pytest.raises(InvalidRequest):
        CURSORS.open(ART, base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


@pytest.mark.parametrize("cursor", ["x", "å", "=", "AAAA", "A" * 100, "\x00", "-_-_"])
def test_what_is_no_cursor_at_all(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="next_cursor"):
        CURSORS.open(ART, cursor)


def test_a_cursor_is_of_one_operation_and_one_installation() -> None:
    sealed = CURSORS.seal(ART, "artic", "[10,0,10]")
    with pytest.raises(InvalidRequest):
        CURSORS.open("images.search", sealed)
    with pytest.raises(InvalidRequest):
        Cursors(b"another secret").open(ART, sealed)


def gallery(request: UpstreamRequest) -> Reply:
    """25 works, page by page."""
    asked = parse_qs(urlsplit(request.url).query)
    page, size = int(asked["page"][0]), int(asked["limit"][0])
    works = [
        {"id": number, "title": f"Work {number}"}
        for number in range((page - 1) * size, min(page * size, 25))
    ]
    return whole({"data": works, "pagination": {"total": 25}})


def serve(rig: Rig, **fields: object) -> None:
    rig.serve(
        route(
            data_target("artic"), data_target("cleveland-museum"), operation=ART, name=ART, **fields
        )
    )
    rig.upstreams.script = gallery


@on_loop
async def test_a_list_is_walked_from_end_to_end_with_one_provider(rig: Rig) -> None:
    serve(rig)
    titles, path = [], ASK
    for _ in range(3):
        client = await rig.ask(path)
        assert client.status == 200, client.body
        assert client.json["page"]["total"] == 25
        titles += [item["title"] for item in client.json["data"]]
        cursor = client.json["page"]["next_cursor"]
        path = f"{ASK}&cursor={quote(cursor or '')}"
    assert cursor is None
    assert titles == [f"Work {number}" for number in range(25)]
    assert rig.upstreams.asked == ["artic"] * 3


@on_loop
async def test_a_cursor_goes_on_with_its_provider_or_not_at_all(rig: Rig) -> None:
    serve(rig)
    cursor = (await rig.ask(ASK)).json["page"]["next_cursor"]
    rig.upstreams.script = lambda request: failure(503)
    rig.upstreams.sent.clear()
    client = await rig.ask(f"{ASK}&cursor={cursor}")
    assert client.status == 503
    assert set(rig.upstreams.asked) == {"artic"}
    client = await rig.ask(f"{ASK}&cursor={cursor}&provider=cleveland-museum")
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert "artic" in client.error["detail"]


@on_loop
async def test_a_forged_cursor_is_refused_with_a_clear_word(rig: Rig) -> None:
    serve(rig)
    for cursor in ("WzEwLDAsMTBd", CURSORS.seal(ART, "artic", "[10,0,10]")):
        client = await rig.ask(f"{ASK}&cursor={cursor}")
        assert (client.status, client.error["code"]) == (400, "invalid_request")
        assert "next_cursor" in client.error["detail"]
        assert client.error["errors"][0]["pointer"] == "/cursor"
    assert rig.upstreams.sent == []


@on_loop
async def test_each_page_is_kept_as_its_own(rig: Rig) -> None:
    serve(rig, cache={"ttl": 300})
    first = await rig.ask(ASK)
    again = await rig.ask(ASK)
    assert again.headers["x-patchbay-cache"] == "hit"
    assert again.json["page"] == first.json["page"]
    path = f"{ASK}&cursor={first.json['page']['next_cursor']}"
    second = await rig.ask(path)
    assert second.headers["x-patchbay-cache"] == "miss"
    assert second.json["data"] != first.json["data"]
    assert (await rig.ask(path)).headers["x-patchbay-cache"] == "hit"
