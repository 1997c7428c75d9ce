"""What is written is read again, byte for byte; nothing else is ever read."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cache.codec import Codec
from cache.compression import MOST_BYTES, THRESHOLD, Torn, pack, unpack
from cache.entry import Entry
from cache.freshness import Freshness
from lib.compression import zstd
from tests.cache.entries import entry

CODEC = Codec(b"secret")
KEY = b"k" * 32
RECORDINGS = Path(__file__).resolve().parents[2] / "../shared/recordings"

spans = st.floats(0, 1e9)
pairs = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=2).map(tuple)
entries = st.builds(
    entry,
    st.binary(max_size=3000),
    events=st.just(()) | st.lists(st.binary(min_size=1, max_size=50), max_size=4),
    freshness=st.builds(Freshness, at=spans, lifetime=spans, age=spans, if_error=spans),
    status=st.sampled_from([200, 404]),
    headers=pairs,
    vary=pairs,
    ttl=spans,
    empty=st.booleans(),
    made=st.integers(0, 5),
    tags=st.lists(st.binary(min_size=16, max_size=16), max_size=3).map(tuple),
)


@given(entries)
def test_an_entry_comes_back_as_it_was(one: Entry) -> None:
    read = CODEC.decode(KEY, CODEC.encode(KEY, one), made=9)
    assert read == dataclasses.replace(one, made=9)
    assert read.body() == one.body()
    assert b"".join(read.stream()) == (one.body() if one.events else b"")


def test_a_stream_comes_back_event_for_event() -> None:
    events = [b"data: 1\n\n", b": x\n\ndata: \n\n\n\n", b"data: [DONE]\r\n\r\n"]
    read = CODEC.decode(KEY, CODEC.encode(KEY, entry(events=events)), made=0)
    assert read.is_stream and read.stream() == events
    assert not entry(b"whole").is_stream


@given(entries, st.data())
def test_torn_bytes_are_refused(one: Entry, data: st.DataObject) -> None:
    written = CODEC.encode(KEY, one)
    place = data.draw(st.integers(0, len(written) - 1))
    flipped = bytearray(written)
    flipped[place] ^= data.draw(st.integers(1, 255))
    for torn in (written[:place], bytes(flipped), written + b"\0", written[place + 1 :], b""):
        with pytest.raises(Torn):
            CODEC.decode(KEY, torn, made=0)


def test_an_entry_under_another_key_or_secret_is_refused() -> None:
    written = CODEC.encode(KEY, entry())
    for key, codec in ((b"j" * 32, CODEC), (KEY, Codec(b"another"))):
        with pytest.raises(Torn):
            codec.decode(key, written, made=0)


def test_another_version_is_refused() -> None:
    written = CODEC.encode(KEY, entry())
    with pytest.raises(Torn, match="version"):
        CODEC.decode(KEY, b"PBC\2" + written[4:], made=0)


@given(st.binary(max_size=200) | st.integers(0, 5000).map(lambda size: b"ab" * size))
def test_bodies_are_whole_again(body: bytes) -> None:
    packed = pack(body)
    assert unpack(packed, len(body)) == body
    assert len(packed) <= len(body) + 1
    for wrong in (len(body) + 1, len(body) - 1):
        with pytest.raises(Torn):
            unpack(packed, wrong)


def test_a_bomb_never_goes_off() -> None:
    bomb = b"\1" + zstandard.ZstdCompressor(level=9).compress(b"\0" * (64 << 20))
    tracemalloc.start()
    try:
        for size in (10, MOST_BYTES, 64 << 20):
            with pytest.raises(Torn):
                unpack(bomb, size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MOST_BYTES


def untold(body: bytes) -> bytes:
    """A frame that does not say how long it is."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(body)


@pytest.mark.parametrize(
    "packed", [b"", b"\7abc", b"\1", b"\1junk", b"\1" + zstd(b"abc") + b"x", b"\1" + untold(b"abc")]
)
def test_what_is_not_packed_is_refused(packed: bytes) -> None:
    with pytest.raises(Torn):
        unpack(packed, 3)


def test_small_bodies_stay_as_they_are() -> None:
    body = b"a" * (THRESHOLD - 1)
    assert pack(body) == b"\0" + body
    assert len(pack(body + b"a")) < 100


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recorded answers are not here")
def test_recorded_answers_take_a_fifth_to_two_fifths_of_their_room() -> None:
    recorded = [json.loads(path.read_bytes()) for path in sorted(RECORDINGS.rglob("*--*.json"))]
    bodies = [orjson.dumps(each["response"]["body"]) for each in recorded]
    large = [body for body in bodies if len(body) >= THRESHOLD]
    assert len(large) > 100
    saved = 1 - sum(len(pack(body)) for body in large) / sum(map(len, large))
    assert 0.6 < saved < 0.85


def test_what_providers_answer_becomes_small() -> None:
    """The answers of the catalogue's own examples; docs/operate/cache.md has more."""
    root = Path(__file__).resolve().parents[2] / "providers" / "catalogue"
    bodies = [path.read_bytes() for path in root.rglob("*.json") if path.stat().st_size > THRESHOLD]
    bodies = [orjson.dumps(json.loads(body)) for body in bodies]
    bodies = [body for body in bodies if len(body) > THRESHOLD]
    assert len(bodies) > 20
    saved = 1 - sum(len(pack(body)) for body in bodies) / sum(map(len, bodies))
    assert saved > 0.5
