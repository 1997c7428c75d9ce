"""zstd, Brotli and gzip, at the levels that docs/operate/cache.md argues for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Mapping

import brotli  # type: ignore[import-untyped]
import zstandard


class _Zstd(threading.local):
    """One of a thread's own: making one takes longer than compressing an answer with it."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()


def zstd(data: bytes) -> bytes:
    return _zstd.compress(data)


def unzstd(data: bytes, size: int) -> bytes:
    """What was compressed by `zstd`, of `size` bytes; no more memory than that is taken. Raises
    ValueError."""
    try:
        if zstandard.frame_content_size(data) == size:
            return _zstd.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError:
        pass
    raise ValueError("it is no zstd frame of that size")


def br(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=3))


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=3, mtime=0)


# By the name of the content coding (RFC 9110 §8.4.1), the best first.
CODINGS: Mapping[bytes, Callable[[bytes], bytes]] = {b"zstd": zstd, b"br": br, b"gzip": gzipped}
