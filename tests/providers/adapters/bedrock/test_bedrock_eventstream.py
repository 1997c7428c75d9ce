"""Frames cut anywhere, and frames that are none."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.adapters.bedrock.eventstream import Corrupt, Decoder, Message, encoded

# From the vectors of AWS's SDKs: no headers and no payload; one text header and a JSON payload.
EMPTY = bytes.fromhex("0000001000000000 05c248eb 7d98c8ff".replace(" ", ""))
PAYLOAD = bytes.fromhex(
    "0000003d00000020"
    "07fd8396"
    "0c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e"
    "7b27666f6f273a27626172277d"
    "8d9c08b1"
)
NAMES = st.from_regex(r"[a-z:-]{1,20}", fullmatch=True)
MESSAGES = st.lists(
    st.builds(
        Message, st.dictionaries(NAMES, st.text(max_size=20), max_size=4), st.binary(max_size=60)
    ),
    max_size=4,
)


def test_the_sdks_vectors() -> None:
    assert Decoder().feed(EMPTY) == [Message({}, b"")]
    assert Decoder().feed(PAYLOAD) == [
        Message({"content-type": "application/json"}, b"{'foo':'bar'}")
    ]
    assert encoded({}, b"") == EMPTY
    assert encoded({"content-type": "application/json"}, b"{'foo':'bar'}") == PAYLOAD


@given(MESSAGES, st.data())
def test_wherever_it_is_cut_it_says_the_same(messages: list[Message], data: st.DataObject) -> None:
    raw = b"".join(encoded(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    decoder = Decoder()
    places = zip([0, *cuts], [*cuts, len(raw)], strict=True)
    assert [m for a, b in places for m in decoder.feed(raw[a:b])] == messages


def test_byte_by_byte() -> None:
    raw, decoder = PAYLOAD + EMPTY + PAYLOAD, Decoder()
    found = [m for at in range(len(raw)) for m in decoder.feed(raw[at : at + 1])]
    assert found == Decoder().feed(raw)
    assert len(found) == 3


def test_every_flipped_bit_is_noticed() -> None:
    for place in range(len(PAYLOAD)):
        for bit in range(8):
            broken = bytearray(PAYLOAD)
            broken[place] ^= 1 << bit
            with pytest.raises(Corrupt):
                Decoder().feed(bytes(broken))


def frame(headers: bytes, total: int | None = None, length: int | None = None) -> bytes:
    """A frame with right checksums around whatever headers or lengths."""
    lengths = struct.pack(
        ">II",
        16 + len(headers) if total is None else total,
        len(headers) if length is None else length,
    )
    body = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers
    return body + struct.pack(">I", zlib.crc32(body))


def test_values_of_other_types_are_passed_over() -> None:
    block = b""
    for kind, value in (
        (0, b""), (1, b""), (2, b"x"), (3, b"xx"), (4, b"xxxx"), (5, b"x" * 8),
        (6, b"\x00\x03abc"), (8, b"x" * 8), (9, b"x" * 16), (7, b"\x00\x01v"),
    ):  # fmt: skip
        block += b"\x01" + b"n" + bytes([kind]) + value
    assert Decoder().feed(frame(block)) == [Message({"n": "v"}, b"")]


@pytest.mark.parametrize(
    "block",
    [
        b"\x05n",
        b"\x01n",
        b"\x01n\x0a",
        b"\x01n\x07",
        b"\x01n\x07\x00",
        b"\x01n\x07\x00\x05abc",
        b"\x01n\x04xx",
        b"\x01\xff\x00",
        b"\x01n\x07\x00\x01\xff",
    ],
)
def test_headers_that_are_none(block: bytes) -> None:
    with pytest.raises(Corrupt):
        Decoder().feed(frame(block))


@pytest.mark.parametrize(
    ("total", "length"), [(0, 0), (15, 0), (16, 1), (2**32 - 1, 0), (5 * 2**20, 0), (2**21, 2**20)]
)
def test_impossible_lengths_are_seen_before_anything_is_kept(total: int, length: int) -> None:
    with pytest.raises(Corrupt):
        Decoder().feed(frame(b"", total, length)[:12])


@given(st.binary(min_size=16, max_size=200))
def test_noise_is_no_stream(noise: bytes) -> None:
    with contextlib.suppress(Corrupt):
        assert all(isinstance(message, Message) for message in Decoder().feed(noise))
