"""What the sandbox makes beside words: ranks, verdicts, pictures, sound, and what it hears in
sound. All of it follows from the request alone, so asking again gives the same."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib.multipart import Part, parse
from providers.sandbox.dialects.dialect import Refused, Request, required
from providers.sandbox.prompt import words

RATE = 8000  # samples of sound a second, one byte each
SECONDS_PER_WORD = 0.25
SOUNDS: Mapping[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_CATEGORIES = ("harassment", "hate", "self-harm", "sexual", "violence")
# A silent frame of MPEG-1 layer III: 128 kbit/s, 44.1 kHz; 26 ms.
_MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)
_LEAST_SOUND = 32  # bytes; less is no recording


def ranked(document: Mapping[str, Any], *, top: str = "top_n") -> list[dict[str, Any]]:
    """Places and scores, the best first: the share of the query's words that a document has."""
    asked = set(required(document, "query", str).lower().split())
    texts = required(document, "documents", list)
    if not all(isinstance(text, str) and text for text in texts):
        raise Refused(400, "'documents' must be texts.", param="documents")
    scored = [
        {"index": place, "relevance_score": round(_likeness(asked, text) or 0.01 / (place + 1), 6)}
        for place, text in enumerate(texts)
    ]
    scored.sort(key=lambda each: -each["relevance_score"])
    return scored[: document.get(top) or len(scored)]


def tokens_ranked(document: Mapping[str, Any]) -> int:
    texts = document["documents"]
    return sum(map(words, texts)) + len(texts) * words(document["query"])


def _likeness(asked: set[str], text: str) -> float:
    return len(asked & set(text.lower().split())) / max(1, len(asked))


def verdict(given: Any) -> dict[str, Any]:
    """Of one text: whatever names a category is of it."""
    text = str(given.get("text", "") if isinstance(given, Mapping) else given).lower()
    categories = {name: name in text for name in _CATEGORIES}
    scores = {name: 0.97 if is_so else 0.001 for name, is_so in categories.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


def picture(prompt: str, number: int) -> str:
    """A PNG of one colour, 8 by 8 pixels, in base64."""
    colour = hashlib.sha256(f"{number}:{prompt}".encode()).digest()[:3]
    rows = (b"\0" + colour * 8) * 8
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)
    return base64.b64encode(png).decode()


def _chunk(name: bytes, data: bytes) -> bytes:
    checked = name + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))


def sound(text: str, form: str) -> bytes:
    """A quarter of a second for each word: a tone as WAV, silence as MP3; other forms are the
    samples alone."""
    seconds = max(1, words(text)) * SECONDS_PER_WORD
    if form == "mp3":
        return _MP3_FRAME * math.ceil(seconds / 0.026)
    samples = _tone(int(seconds * RATE))
    if form != "wav":
        return samples
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, RATE, 1, 8)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def _tone(count: int) -> bytes:
    period = bytes(128 + round(60 * math.sin(2 * math.pi * at / 16)) for at in range(16))
    return (period * (count // 16 + 1))[:count]


def form(request: Request) -> dict[str, Part]:
    """A form's parts by name. Raises Refused."""
    try:
        parts = parse(request.headers.get("content-type", ""), request.body)
    except ValueError as error:
        raise Refused(400, f"Invalid form: {error}.") from None
    return {part.name: part for part in parts}


def heard(recording: bytes) -> tuple[list[dict[str, Any]], float]:
    """The words in a recording, with their times, and how long it is in seconds."""
    if len(recording) < _LEAST_SOUND:
        raise Refused(400, "Audio file might be corrupted or unsupported.", param="file")
    seconds = round(len(recording) / RATE, 3)
    told = hashlib.sha256(recording).hexdigest()[:8]
    said = ["the", "sandbox", "heard", told]
    step = seconds / len(said)
    return [
        {"word": word, "start": round(at * step, 3), "end": round((at + 1) * step, 3)}
        for at, word in enumerate(said)
    ], seconds


def sentence(said: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(_texts(said))


def _texts(said: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (str(each["word"]) for each in said)
