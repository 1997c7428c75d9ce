"""What a call may use at most where it is not a matter of a chat's tokens: known from the call
alone, before anything is sent.

Units are what providers bill by: characters spoken, seconds heard, images of a megapixel, searches
through a hundred documents. A model is billed by tokens or by units, as its price says; so both
are told wherever a call may have both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from providers.call import Call, Usage

RERANK: Final = "rerank"
MODERATIONS: Final = "moderations"
IMAGES: Final = "image.generations"
SPEECH: Final = "audio.speech"
TRANSCRIPTIONS: Final = "audio.transcriptions"

DOCUMENTS_PER_SEARCH = 100  # Cohere's search unit
TOKENS_PER_DOCUMENT = 500  # a longer one counts as several
TOKENS_PER_PAIR = 8  # what a ranking model puts around a query and a document
PIXELS_PER_UNIT = 1024 * 1024
TOKENS_PER_IMAGE = 6240  # the most of OpenAI's table, for 1024x1536 in high quality
LEAST_BYTES_PER_SECOND = 500  # of any recording of speech: 4 kbit/s
LIKELY_BYTES_PER_SECOND = 16_000  # 128 kbit/s
TOKENS_PER_SECOND = 10  # of sound, as OpenAI counts it
MOST_TRANSCRIBED = 16_384  # tokens of output


def text_of(document: Any) -> str:
    """A document of a rerank call: a text, or an object that has one."""
    return str(document["text"] if isinstance(document, Mapping) else document)


def of_rerank(call: Call) -> Usage:
    """The query is read once for each document. No token is shorter than a byte."""
    query = _bytes(call.params["query"])
    sizes = [_bytes(text_of(document)) + query for document in call.params["documents"]]
    pieces = sum(-(-size // TOKENS_PER_DOCUMENT) for size in sizes)
    return Usage(
        sum(sizes) + TOKENS_PER_PAIR * len(sizes),
        units=-(-pieces // DOCUMENTS_PER_SEARCH),
        estimated=True,
    )


def of_moderations(call: Call) -> Usage:
    given = call.params["input"]
    parts = [given] if isinstance(given, str) else given
    texts = [part if isinstance(part, str) else part.get("text") or "" for part in parts]
    return Usage(sum(map(_bytes, texts)) + len(texts), units=1, estimated=True)


def of_images(call: Call) -> Usage:
    count = call.params.get("n") or 1
    return Usage(
        _bytes(call.params["prompt"]),
        TOKENS_PER_IMAGE * count,
        units=count * units_of_image(call.params),
        estimated=True,
    )


def units_of_image(params: Mapping[str, Any]) -> int:
    """Begun megapixels; quality `hd` costs as much as one more, as DALL·E's prices have it."""
    width, _, height = str(params.get("size") or "").partition("x")
    pixels = int(width) * int(height) if height else PIXELS_PER_UNIT
    return max(1, -(-pixels // PIXELS_PER_UNIT)) + (params.get("quality") == "hd")


def of_speech(call: Call) -> Usage:
    return Usage(units=len(call.params["input"]))


def of_transcriptions(call: Call) -> Usage:
    seconds = _seconds(call, LEAST_BYTES_PER_SECOND)
    return Usage(
        seconds * TOKENS_PER_SECOND + _bytes(call.params.get("prompt") or ""),
        min(seconds * TOKENS_PER_SECOND, MOST_TRANSCRIBED),
        units=seconds,
        estimated=True,
    )


def likely_seconds(call: Call) -> int:
    """How long a recording likely is, where the provider does not tell."""
    return _seconds(call, LIKELY_BYTES_PER_SECOND)


def _seconds(call: Call, bytes_per_second: int) -> int:
    size = len(call.file.content) if call.file else 0
    return max(1, -(-size // bytes_per_second))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


OF: Final[Mapping[str, Callable[[Call], Usage]]] = {
    RERANK: of_rerank,
    MODERATIONS: of_moderations,
    IMAGES: of_images,
    SPEECH: of_speech,
    TRANSCRIPTIONS: of_transcriptions,
}
