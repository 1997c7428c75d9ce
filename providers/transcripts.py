"""What was said in a recording, in the form that the client asked for: OpenAI's object, a
detailed one, plain text, or subtitles. Providers are asked for an object, which tells how long
the recording was; the form is made here, so that every provider has every form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from providers import amounts
from providers.call import Answer, Call, Usage

TEXT: Final = b"text/plain; charset=utf-8"
DETAILED: Final = frozenset({"verbose_json", "srt", "vtt"})
_LONGEST = 1_000_000.0  # seconds; no recording is as long
_WORDS_PER_LINE = 12
# What OpenAI's SDKs expect of a segment, where the provider does not tell.
_UNTOLD: Final[Mapping[str, Any]] = {
    "seek": 0,
    "tokens": [],
    "temperature": 0.0,
    "avg_logprob": 0.0,
    "compression_ratio": 0.0,
    "no_speech_prob": 0.0,
}


@dataclass(slots=True)
class Transcript:
    """`seconds` is how long the recording was; None where the provider does not tell.
    Segments and words have `start` and `end` in seconds."""

    text: str
    seconds: float | None = None
    language: str = ""
    segments: list[dict[str, Any]] = field(default_factory=list)
    words: list[dict[str, Any]] = field(default_factory=list)


def wanted(call: Call) -> str:
    return str(call.params.get("response_format") or "json")


def wants_words(call: Call) -> bool:
    return "word" in (call.params.get("timestamp_granularities") or ())


def usage_of(call: Call, transcript: Transcript, tokens: Usage | None, least: int = 0) -> Usage:
    """Whole seconds, at least `least`, and the tokens that were told, if any."""
    known = tokens or Usage()
    if transcript.seconds is not None:
        return known._replace(units=max(least, math.ceil(transcript.seconds)))
    if tokens is not None:
        return tokens
    return Usage(units=max(least, amounts.likely_seconds(call)), estimated=True)


def written(call: Call, transcript: Transcript, usage: Usage) -> Answer:
    form = wanted(call)
    if make := _PLAIN.get(form):
        return Answer(make(transcript).encode(), content_type=TEXT)
    answer: dict[str, Any] = {"text": transcript.text}
    if form == "verbose_json":
        answer |= {
            "task": "transcribe",
            "language": transcript.language,
            "duration": float(transcript.seconds or 0),
            "segments": [
                {"id": number, **_UNTOLD, **each}
                for number, each in enumerate(transcript.segments or segments_of(transcript.words))
            ],
        }
        if wants_words(call):
            answer["words"] = transcript.words
    return Answer(orjson.dumps(answer | {"usage": _told(usage)}))


def seconds_told(value: Any) -> float | None:
    """A length of time; None for what is none."""
    if type(value) not in (int, float) or not 0 < value < _LONGEST:
        return None
    return float(value)


def timed(items: Any, name: str) -> list[dict[str, Any]]:
    """Segments (`text`) or words (`word`), as OpenAI tells them."""
    return [
        {**each, name: str(each[name]), "start": float(each["start"]), "end": float(each["end"])}
        for each in items or ()
    ]


def segments_of(words: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a few words, for a provider that tells words only."""
    lines = [words[at : at + _WORDS_PER_LINE] for at in range(0, len(words), _WORDS_PER_LINE)]
    return [
        {
            "start": line[0]["start"],
            "end": line[-1]["end"],
            "text": " ".join(each["word"] for each in line),
        }
        for line in lines
    ]


def _told(usage: Usage) -> dict[str, Any]:
    if usage.units:
        return {"type": "duration", "seconds": usage.units}
    return {
        "type": "tokens",
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _lines(transcript: Transcript) -> list[Mapping[str, Any]]:
    whole = {"start": 0.0, "end": transcript.seconds or 0.0, "text": transcript.text}
    return list(transcript.segments or segments_of(transcript.words) or [whole])


def _srt(transcript: Transcript) -> str:
    blocks = [
        f"{number}\n{_clock(line['start'], ',')} --> {_clock(line['end'], ',')}\n"
        f"{line['text'].strip()}\n"
        for number, line in enumerate(_lines(transcript), 1)
    ]
    return "\n".join(blocks)


def _vtt(transcript: Transcript) -> str:
    blocks = [
        f"{_clock(line['start'], '.')} --> {_clock(line['end'], '.')}\n{line['text'].strip()}\n"
        for line in _lines(transcript)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _clock(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{thousandths // 1000:02}{point}{thousandths % 1000:03}"


_PLAIN: Final[Mapping[str, Callable[[Transcript], str]]] = {
    "text": lambda transcript: transcript.text + "\n",
    "srt": _srt,
    "vtt": _vtt,
}
