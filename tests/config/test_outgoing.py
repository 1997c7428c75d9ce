"""On its way out an answer is compressed as asked, has an ETag, and is what it was."""

from __future__ import annotations

import gzip
from typing import Any

import brotli
import pytest
import zstandard

from config.outgoing import LEAST_BYTES, MOST_BYTES, chosen, outgoing
from tests.loops import on_loop

JSON = b"application/json"
LONG = b'{"data": [' + b'"hello", ' * 1000 + b'"end"]}'
OPENED = {
    b"zstd": lambda data: zstandard.ZstdDecompressor().decompress(data),
    b"br": brotli.decompress,
    b"gzip": gzip.decompress,
    b"": bytes,
}


class Out:
    """What left."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        told: dict[bytes, bytes] = {}
        for name, value in self.messages[0]["headers"]:
            assert name not in told
            told[name] = value
        return told

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


async def answered(
    body: bytes = LONG,
    *,
    method: str = "GET",
    status: int = 200,
    kind: bytes = JSON,
    more: dict[bytes, bytes] | None = None,
    **asked: bytes,
) -> Out:
    out = Out()
    headers = [(name.replace("_", "-").encode(), value) for name, value in asked.items()]
    send = outgoing({"type": "http", "method": method, "headers": headers}, out)
    told = {b"Content-Type": kind, b"content-length": str(len(body)).encode(), **(more or {})}
    await send({"type": "http.response.start", "status": status, "headers": list(told.items())})
    await send({"type": "http.response.body", "body": body})
    return out


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip, deflate, br", b"br"),
        (b"GZIP", b"gzip"),
        (b"gzip;q=1, br;q=0.5", b"gzip"),
        (b"gzip;q=0.5,br;q=0.500 ,zstd;q=0", b"br"),
        (b"*", b"zstd"),
        (b"*;q=0.1, gzip", b"gzip"),
        (b"zstd;q=0, *", b"br"),
        (b"*;q=0", b""),
        (b"identity", b""),
        (b"gzip;q=0.5, identity", b""),
        (b"gzip, identity", b"gzip"),
        (b"br;q=0.1, identity;q=0", b"br"),
        (b"deflate", b""),
        (b"", b""),
        (b"gzip;q=2", b""),
        (b"gzip;level=9", b""),
        (b"\xff\x00, gzip", b"gzip"),
    ],
)
def test_the_client_chooses(accepted: bytes, coding: bytes) -> None:
    assert chosen(accepted) == coding


@on_loop
async def test_what_is_opened_is_what_was_said() -> None:
    for coding, opened in OPENED.items():
        for method in ("GET", "POST"):
            out = await answered(method=method, accept_encoding=coding or b"identity")
            assert opened(out.body) == LONG
            assert out.headers.get(b"content-encoding", b"") == coding
            assert int(out.headers[b"content-length"]) == len(out.body)
            assert len(out.body) < len(LONG) / 5 or not coding
            if coding or method == "GET":
                assert out.headers[b"vary"] == b"accept-encoding"


@on_loop
async def test_what_gains_nothing_goes_as_it_is() -> None:
    asked = {"accept_encoding": b"gzip, br, zstd"}
    for body in (b"{}", b"x" * (LEAST_BYTES - 1), b"x" * (MOST_BYTES + 1)):
        assert (await answered(body, **asked)).body == body
    for kind in (b"text/html; charset=utf-8", b"text/event-stream", b"image/png", b"text/json"):
        out = await answered(kind=kind, **asked)
        assert (out.body, b"content-encoding" in out.headers) == (LONG, False)
        assert b"etag" not in out.headers
    squeezed = gzip.compress(LONG)
    out = await answered(squeezed, more={b"Content-Encoding": b"gzip"}, **asked)
    assert out.body == squeezed
    for kind in (b"application/problem+json", b"application/json; charset=utf-8"):
        assert (await answered(kind=kind, **asked)).body != LONG


@on_loop
async def test_a_stream_leaves_as_it_comes() -> None:
    out = Out()
    headers = [(b"accept-encoding", b"zstd")]
    send = outgoing({"type": "http", "method": "POST", "headers": headers}, out)
    told = [(b"content-type", JSON)]
    await send({"type": "http.response.start", "status": 200, "headers": told})
    assert len(out.messages) == 1
    for part in (b"[" + b"1," * 2000, b"1]"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
        assert out.messages[-1]["body"] == part


@on_loop
async def test_an_answer_in_parts_loses_none() -> None:
    out = Out()
    send = outgoing({"type": "http", "method": "GET", "headers": []}, out)
    told = [(b"content-type", JSON), (b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": b"[1,", "more_body": True})
    await send({"type": "http.response.body", "body": b"2]"})
    assert out.body == b"[1,2]"
    assert b"etag" in out.headers


@on_loop
async def test_who_has_it_already_is_told_so() -> None:
    first = await answered(accept_encoding=b"br")
    tag = first.headers[b"etag"]
    assert (await answered()).headers[b"etag"] == tag
    assert (await answered(LONG + b" ")).headers[b"etag"] != tag
    for asked in (tag, tag.removeprefix(b"W/"), b'"other", ' + tag, b"*"):
        again = await answered(if_none_match=asked, accept_encoding=b"br")
        assert (again.status, again.body) == (304, b"")
        assert again.headers[b"etag"] == tag
        assert not {b"content-length", b"content-encoding", b"content-type"} & set(again.headers)
        assert again.headers[b"vary"] == first.headers[b"vary"]  # RFC 9110 §15.4.5
    for asked in (b'"other"', b"nonsense", tag.strip(b'W/"'), b'W/"'):
        assert (await answered(if_none_match=asked)).status == 200


@on_loop
async def test_what_is_said_in_several_lines_is_one_list() -> None:
    tag = (await answered()).headers[b"etag"]
    lines = [(b"accept-encoding", b"gzip"), (b"accept-encoding", b"deflate")]
    tags = [(b"if-none-match", tag), (b"if-none-match", b'"other"')]
    for headers, status, coding in ((lines, 200, b"gzip"), (tags, 304, None)):
        out = Out()
        send = outgoing({"type": "http", "method": "GET", "headers": headers}, out)
        told = [(b"content-type", JSON), (b"content-length", str(len(LONG)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": told})
        await send({"type": "http.response.body", "body": LONG})
        assert (out.status, out.headers.get(b"content-encoding")) == (status, coding)


@on_loop
async def test_only_what_may_be_asked_for_again_has_a_tag() -> None:
    assert b"etag" not in (await answered(method="POST", if_none_match=b"*")).headers
    assert b"etag" not in (await answered(status=404, if_none_match=b"*")).headers
    own = await answered(more={b"ETag": b'"v7"'}, if_none_match=b'W/"v7"')
    assert (own.status, own.headers[b"etag"]) == (304, b'"v7"')


def test_an_answer_that_nothing_can_change_costs_nothing() -> None:
    out = Out()
    asked = [(b"content-type", JSON), (b"accept-encoding", b"identity")]
    assert outgoing({"type": "http", "method": "POST", "headers": asked}, out) is out
