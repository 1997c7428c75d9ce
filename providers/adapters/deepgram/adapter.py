"""The five verbs for Deepgram: the recording is the body, and all else is in the query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from lib.problems import Problem
from providers import openai_wire as wire
from providers import transcripts
from providers.adapter import Meter, Spoken
from providers.adapters.deepgram.outcome import outcome_of
from providers.call import Answer, Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.transcripts import Transcript, seconds_told
from providers.translation import refuse_others
from providers.whole import WholeMeter

# Passed on under Deepgram's own names.
_OWN = ("detect_language", "diarize", "keyterm", "numerals", "punctuate", "smart_format")
_EXPRESSED = frozenset(
    {*_OWN, "file", "language", "response_format", "timestamp_granularities"},
)


class DeepgramAdapter(Spoken):
    """/listen for `audio.transcriptions`."""

    name = "deepgram"

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported."""
        refuse_others(call.params, _EXPRESSED, "Deepgram")
        file = call.file
        assert file is not None  # noqa: S101 - a transcription has one
        headers = {"content-type": file.content_type or "application/octet-stream"}
        if upstream.secret:
            headers["authorization"] = f"Token {upstream.secret}"
        url = f"{upstream.base_url.rstrip('/')}/listen?{_query(call, upstream)}"
        return UpstreamRequest("POST", url, headers, file.content)

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        return DeepgramMeter(call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)


def _query(call: Call, upstream: Upstream) -> str:
    params = call.params
    asked = {"model": upstream.model, "smart_format": "true"}
    asked |= {name: str(params[name]) for name in _OWN if name in params}
    if "language" in params:
        asked["language"] = params["language"]
    else:
        asked.setdefault("detect_language", "true")
    return urlencode(asked)


class DeepgramMeter(WholeMeter):
    """The first channel's best alternative; `metadata.duration` is what is billed."""

    def _read(self, document: Any, body: bytes) -> Answer:
        channel = document["results"]["channels"][0]
        best = channel["alternatives"][0]
        transcript = Transcript(
            text=str(best["transcript"]),
            seconds=seconds_told(document["metadata"].get("duration")),
            language=str(channel.get("detected_language") or self._call.params.get("language", "")),
            words=[_word(each) for each in best.get("words") or ()],
        )
        self.usage = transcripts.usage_of(self._call, transcript, None)
        return transcripts.written(self._call, transcript, self.usage)


def _word(told: Mapping[str, Any]) -> dict[str, Any]:
    text = told.get("punctuated_word") or told["word"]
    return {"word": str(text), "start": float(told["start"]), "end": float(told["end"])}
