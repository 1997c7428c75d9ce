"""zstd, Brotli and gzip, each at the level that the table in docs/operate/cache.md argues for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Mapping

import brotli  # type: ignore[import-untyped]
import zstandard


class _Zstd(threading.local):
    """One of a thread's own: making one takes longer than compressing an answer with it."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=3).compress


_zstd = _Zstd()


def zstd(data: bytes) -> bytes:
    return _zstd.compress(data)


def br(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=3))


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=3, mtime=0)


# By the name of the content coding (RFC 9110 §8.4.1), the best first.
CODINGS: Mapping[bytes, Callable[[bytes], bytes]] = {b"zstd": zstd, b"br": br, b"gzip": gzipped}
