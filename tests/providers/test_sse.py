"""The decoder: the same events however the network cut the bytes, and bounded memory."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import sse
from providers.sse import Decoder, Event, EventTooLarge

STREAM = (
    "\ufeffevent: start\ndata: {}\n\n"
    ": a comment\n\n"
    "data:no space\r\ndata:  two spaces\r\n\r\n"
    "id: 7\rretry: 10\rdata: åäö 🦉\r\r"
    "event: nothing to say\n\n"
    "data\n\n"
    "data: [DONE]\n\n"
    "data: never ended"
).encode()
EVENTS = [
    Event("start", b"{}"),
    Event("", b"no space\n two spaces"),
    Event("", "åäö 🦉".encode()),
    Event("", b""),
    Event("", b"[DONE]"),
]


def decoded(*chunks: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def test_the_standards_rules() -> None:
    assert decoded(STREAM) == EVENTS


@pytest.mark.unmeasured
@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_every_line_ending_and_every_cut(ending: bytes) -> None:
    stream = b"\xef\xbb\xbf" + b"event: a\ndata: 1\n\ndata: 2\ndata: 3\n\n".replace(b"\n", ending)
    expected = [Event("a", b"1"), Event("", b"2\n3")]
    for cut in range(len(stream) + 1):
        assert decoded(stream[:cut], stream[cut:]) == expected
    assert decoded(*(stream[i : i + 1] for i in range(len(stream)))) == expected


@pytest.mark.unmeasured
def test_a_cut_at_every_byte_says_the_same() -> None:
    for cut in range(len(STREAM) + 1):
        assert decoded(STREAM[:cut], b"", STREAM[cut:]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cuts_say_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert decoded(*chunks) == EVENTS


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_no_bytes_break_it(chunks: list[bytes]) -> None:
    assert decoded(*chunks) == decoded(b"".join(chunks))


def test_a_bom_is_one_and_leading() -> None:
    assert decoded(b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n") == []
    assert decoded(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n") == [Event("", b"1")]


@pytest.mark.parametrize(
    "flood", [b"x" * 65536, b"data: " + b"x" * 65536 + b"\n", b"data: " + b"x" * 65536]
)
def test_an_endless_event_is_refused_before_memory_is(flood: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(EventTooLarge):
        for _ in range(2 * sse.MAX_EVENT_BYTES // len(flood)):
            decoder.feed(flood)


def test_many_events_in_one_chunk_are_no_large_event() -> None:
    event = b"data: " + b"x" * 1000 + b"\n\n"
    assert len(decoded(event * 6000)) == 6000


def test_encode_is_what_decode_reads() -> None:
    document = {"text": "a\nb\r\u2028ö"}
    [event] = decoded(sse.encode(document))
    assert orjson.loads(event.data) == document
