"""Embeddings by hash: the same text and model always give the same unit vector."""

from __future__ import annotations

import base64
import hashlib
import math
import struct

DEFAULT_DIMENSIONS = 1536
MAX_DIMENSIONS = 4096

_NATIVE = {
    "text-embedding-3-large": 3072,
    "gemini-embedding-001": 3072,
    "mistral-embed": 1024,
    "nomic-embed-text": 768,
}


def size_of(model: str, asked: int | None) -> int:
    """How long the model's vectors are; never above MAX_DIMENSIONS."""
    return min(asked or _NATIVE.get(model, DEFAULT_DIMENSIONS), MAX_DIMENSIONS)


def vector(model: str, text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """A vector of length 1 in 32-bit floats. Other models have other vectors, as in life."""
    seed = f"{model}\0{text}".encode("utf-8", "surrogatepass")
    noise = hashlib.shake_256(seed).digest(4 * dimensions)
    raw = struct.unpack(f"<{dimensions}i", noise)
    length = math.sqrt(sum(each * each for each in raw)) or 1.0
    # Rounded here, so that a vector is the same as numbers and as base64.
    form = f"<{dimensions}f"
    return list(struct.unpack(form, struct.pack(form, *(each / length for each in raw))))


def as_base64(values: list[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI encodes them."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
