"""AWS's binary event stream (`application/vnd.amazon.eventstream`): frames with two checksums.

total length, headers' length, CRC of these two     four bytes each, big-endian
headers                                              name, type and value, one after another
payload
CRC of all before                                    four bytes
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from providers.sse import MAX_EVENT_BYTES

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_LEAST = _PRELUDE.size + _CRC.size
_MAX_HEADERS = 128 * 1024
_TEXT, _BYTES = 7, 6
# Bytes of the values whose type says how long they are; nothing is asked of those.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Corrupt(ValueError):
    """The bytes are no frame."""


class Message(NamedTuple):
    """`headers` holds those whose value is a text."""

    headers: Mapping[str, str]
    payload: bytes


class Decoder:
    """Feed it chunks cut anywhere; get the messages that became complete."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._total = 0  # of the frame that has begun, once its prelude is there

    def feed(self, chunk: bytes) -> list[Message]:
        """Raises Corrupt."""
        self._rest += chunk
        messages = []
        while self._is_whole():
            messages.append(_message(bytes(self._rest[: self._total])))
            del self._rest[: self._total]
            self._total = 0
        return messages

    def _is_whole(self) -> bool:
        if not self._total and len(self._rest) >= _PRELUDE.size:
            self._total = _total(self._rest)
        return 0 < self._total <= len(self._rest)


def _total(frame: bytearray) -> int:
    total, headers, crc = _PRELUDE.unpack_from(frame)
    if zlib.crc32(frame[:8]) != crc:
        raise Corrupt("the prelude's checksum is wrong")
    if not _LEAST + headers <= total <= MAX_EVENT_BYTES or headers > _MAX_HEADERS:
        raise Corrupt("the lengths are impossible")
    return int(total)


def _message(frame: bytes) -> Message:
    if zlib.crc32(frame[: -_CRC.size]) != _CRC.unpack_from(frame, len(frame) - _CRC.size)[0]:
        raise Corrupt("the message's checksum is wrong")
    end = _PRELUDE.size + _PRELUDE.unpack_from(frame)[1]
    return Message(_headers(frame[_PRELUDE.size : end]), frame[end : -_CRC.size])


def _headers(block: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            start = at + 1 + block[at]
            name, kind = block[at + 1 : start].decode(), block[start]
            at = start + 1
            size = _SIZES.get(kind)
            if size is None:
                if kind not in (_TEXT, _BYTES):
                    raise Corrupt("a header of an unknown type")
                (size,) = _LENGTH.unpack_from(block, at)
                at += _LENGTH.size
            value, at = block[at : at + size], at + size
            if kind == _TEXT:
                found[name] = value.decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise Corrupt("a header is cut off or no text") from None
    if at != len(block):
        raise Corrupt("a header is cut off")
    return found


def encoded(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame, as a provider writes it."""
    block = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    lengths = struct.pack(">II", _LEAST + len(block) + len(payload), len(block))
    frame = lengths + _CRC.pack(zlib.crc32(lengths)) + block + payload
    return frame + _CRC.pack(zlib.crc32(frame))


def _header(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([_TEXT]) + _LENGTH.pack(len(value)) + value
