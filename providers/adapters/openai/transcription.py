"""Transcription in OpenAI's dialect: the file goes out as a form again, and what comes back is
an object, whatever form the client wants (providers/transcripts.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lib.multipart import Part, encode
from providers import transcripts
from providers.adapter import Unsupported
from providers.adapters.openai.objects import refuse_blocked
from providers.call import Answer, Call, Upstream
from providers.transcripts import Transcript
from providers.whole import WholeMeter, tokens_told

# What is said in other words below, or is no field of a form.
_OURS = frozenset({"file", "model", "response_format", "stream", "timestamp_granularities"})


def form(call: Call, upstream: Upstream) -> tuple[str, bytes]:
    """Content-Type and body. Raises Unsupported. No file can hold the boundary: it is made of
    the call's id, which nobody knew when the file was sent."""
    return encode(f"patchbay-{call.request_id}", _parts(call, upstream))


def _parts(call: Call, upstream: Upstream) -> Iterator[Part]:
    yield Part("model", upstream.model.encode())
    for name, value in call.params.items():
        if name not in _OURS:
            for each in value if isinstance(value, list) else [value]:
                yield Part(name + "[]" * isinstance(value, list), str(each).encode())
    yield from _details(call, upstream)
    file = call.file
    assert file is not None  # noqa: S101 - a transcription has one
    yield Part("file", file.content, file.name or "audio", file.content_type)


def _details(call: Call, upstream: Upstream) -> Iterator[Part]:
    """How much is to be told: times, where the client needs them; the recording's length, where
    a service tells it only beside times."""
    settings = upstream.settings
    how = settings.get("transcript_details", "asked")
    detailed = transcripts.wanted(call) in transcripts.DETAILED
    if detailed and upstream.model in settings.get("plain_transcripts", ()):
        raise Unsupported("response_format", f"{upstream.model} tells no times.")
    asked = list(call.params.get("timestamp_granularities") or ())
    if how == "granularities":
        for each in asked or ["segment"] * detailed:
            yield Part("timestamp_granularities", each.encode())
        return
    yield Part("response_format", b"verbose_json" if detailed or how == "always" else b"json")
    for each in asked:
        yield Part("timestamp_granularities[]", each.encode())


class TranscriptionMeter(WholeMeter):
    def _read(self, document: Any, body: bytes) -> Answer:
        refuse_blocked(document)
        told = document.get("usage") or {}
        lengths = (document.get("duration"), told.get("seconds"), told.get("prompt_audio_seconds"))
        seconds = (transcripts.seconds_told(length) for length in lengths)
        transcript = Transcript(
            text=str(document["text"]),
            seconds=next((length for length in seconds if length), None),
            language=str(document.get("language") or ""),
            segments=transcripts.timed(document.get("segments"), "text"),
            words=transcripts.timed(document.get("words"), "word"),
        )
        least = int(self._upstream.settings.get("least_audio_seconds", 0))
        usage = transcripts.usage_of(self._call, transcript, tokens_told(told), least)
        self.usage = usage
        return transcripts.written(self._call, transcript, usage)
