"""Embeddings by hash: the same text and model always give the same unit vector.

Each word has a direction of its own, and a text's vector is nearly the sum of its words', those
of grammar counting little. So texts that share words are near each other, in any order, and
those that share none are at right angles: a bag of words, honestly computed.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from functools import lru_cache
from itertools import islice

DEFAULT_DIMENSIONS = 1536
MAX_DIMENSIONS = 4096
MOST_WORDS = 256  # of a text, each counted once

_NATIVE = {
    "text-embedding-3-large": 3072,
    "gemini-embedding-001": 3072,
    "mistral-embed": 1024,
    "nomic-embed-text": 768,
}
_WORD = re.compile(r"\w+")
_ENDING = re.compile(r"(?<=\w{3})(?:t?ing|ed|es|s|e)\Z")
_GRAMMAR = frozenset(
    _WORD.findall(
        "a an the is are was were be been am do does did can could would will shall should may i "
        "me my we our you your it its of in on at to for with by as and or if what which how "
        "there please tell give show hi hello s t"
    )
)
# Weights, of which the whole text has one too: no two texts have the same vector.
_CONTENT, _OF_GRAMMAR, _WHOLE = 10, 2, 1


def size_of(model: str, asked: int | None) -> int:
    """How long the model's vectors are; never above MAX_DIMENSIONS."""
    return min(asked or _NATIVE.get(model, DEFAULT_DIMENSIONS), MAX_DIMENSIONS)


def vector(model: str, text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """A vector of length 1 in 32-bit floats. Other models have other vectors, as in life."""
    sums = [_WHOLE * each for each in _direction.__wrapped__(model, f"\0{text}", dimensions)]
    for word in islice(dict.fromkeys(_WORD.findall(text.casefold())), MOST_WORDS):
        weight = _OF_GRAMMAR if word in _GRAMMAR else _CONTENT
        direction = _direction(model, _ENDING.sub("", word), dimensions)
        sums = [have + weight * more for have, more in zip(sums, direction, strict=True)]
    length = math.sqrt(sum([each * each for each in sums])) or 1.0
    # Rounded here, so that a vector is the same as numbers and as base64.
    form = f"<{dimensions}f"
    return list(struct.unpack(form, struct.pack(form, *[each / length for each in sums])))


def as_base64(values: list[float]) -> str:
    """Little-endian 32-bit floats, as OpenAI encodes them."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


@lru_cache(maxsize=1024)
def _direction(model: str, word: str, dimensions: int) -> tuple[int, ...]:
    """Odd numbers around 0, so that none has no length."""
    seed = f"{model}\0{word}".encode("utf-8", "surrogatepass")
    return tuple(2 * each - 255 for each in hashlib.shake_256(seed).digest(dimensions))
