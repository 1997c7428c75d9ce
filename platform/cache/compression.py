"""Bodies made small, and whole again without ever growing past what they say they are.

What is measured, and why this method: docs/operate/cache.md.
"""

from __future__ import annotations

from lib.compression import unzstd, zstd

THRESHOLD = 1024  # bytes below which it saves too little
MOST_BYTES = 4 * 1024 * 1024  # of a body that is kept
PLAIN, ZSTD = b"\0", b"\1"


class Torn(ValueError):
    """These bytes are not what was written, or not of this version."""


def pack(body: bytes) -> bytes:
    """The first byte says how the rest is written."""
    if len(body) < THRESHOLD:
        return PLAIN + body
    small = zstd(body)
    return ZSTD + small if len(small) < len(body) else PLAIN + body


def unpack(packed: bytes, size: int) -> bytes:
    """The body, which has `size` bytes. Raises Torn, and makes no more than that of anything."""
    method, rest = packed[:1], packed[1:]
    if size > MOST_BYTES:
        raise Torn("too long")
    if method == ZSTD:
        rest = _opened(rest, size)
    elif method != PLAIN:
        raise Torn("packed in a way that is not known")
    if len(rest) != size:
        raise Torn("not as long as it says")
    return rest


def _opened(small: bytes, size: int) -> bytes:
    try:
        return unzstd(small, size)
    except ValueError:
        raise Torn("cannot be unpacked") from None
