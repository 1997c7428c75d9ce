"""The five verbs for ElevenLabs. A voice is part of the path; OpenAI's names of voices may be
mapped in the provider row's `settings`: {"voices": {"alloy": "21m00Tcm4TlvDq8ikWAM"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from lib.multipart import Part, encode
from lib.problems import Problem
from providers import amounts, transcripts
from providers import openai_wire as wire
from providers.adapter import Meter, Spoken, Unsupported
from providers.adapters.elevenlabs.outcome import outcome_of
from providers.call import Answer, Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.sound import SoundMeter
from providers.transcripts import Transcript, seconds_told
from providers.translation import refuse_others
from providers.whole import WholeMeter

_FORMATS = {"mp3": "mp3_44100_128", "opus": "opus_48000_64", "pcm": "pcm_24000"}
_SPOKEN = frozenset({"input", "voice", "response_format", "speed", "stream_format"})
_HEARD = frozenset(
    {*("file", "language", "response_format", "temperature", "timestamp_granularities"), "diarize"}
)


class ElevenLabsAdapter(Spoken):
    """/text-to-speech for `audio.speech`, /speech-to-text for `audio.transcriptions`."""

    name = "elevenlabs"

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported."""
        speaks = call.operation == amounts.SPEECH
        path, kind, body = (_spoken if speaks else _heard)(call, upstream)
        headers = {"content-type": kind}
        if upstream.secret:
            headers["xi-api-key"] = upstream.secret
        return UpstreamRequest("POST", upstream.base_url.rstrip("/") + path, headers, body)

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        if call.operation == amounts.SPEECH:
            return SoundMeter(call)
        return ElevenLabsMeter(call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)


def _spoken(call: Call, upstream: Upstream) -> tuple[str, str, bytes]:
    params = call.params
    refuse_others(params, _SPOKEN, "ElevenLabs")
    form = _FORMATS.get(params.get("response_format") or "mp3")
    if form is None:
        raise Unsupported("response_format", "ElevenLabs speaks mp3, opus and pcm.")
    named = upstream.settings.get("voices", {})
    voice = quote(named.get(params["voice"], params["voice"]), safe="")
    body: dict[str, Any] = {"text": params["input"], "model_id": upstream.model}
    if params.get("speed") is not None:
        body["voice_settings"] = {"speed": params["speed"]}
    path = f"/text-to-speech/{voice}/stream?output_format={form}"
    return path, "application/json", orjson.dumps(body)


def _heard(call: Call, upstream: Upstream) -> tuple[str, str, bytes]:
    params, file = call.params, call.file
    refuse_others(params, _HEARD, "ElevenLabs")
    assert file is not None  # noqa: S101 - a transcription has one
    parts = [Part("model_id", upstream.model.encode())]
    for name, theirs in (("language", "language_code"), ("temperature", "temperature")):
        if name in params:
            parts.append(Part(theirs, str(params[name]).encode()))
    if "diarize" in params:
        parts.append(Part("diarize", str(params["diarize"]).lower().encode()))
    parts.append(Part("file", file.content, file.name or "audio", file.content_type))
    return "/speech-to-text", *encode(f"patchbay-{call.request_id}", parts)


class ElevenLabsMeter(WholeMeter):
    def _read(self, document: Any, body: bytes) -> Answer:
        told = document.get("words") or ()
        spoken = [each for each in told if each.get("type", "word") == "word"]
        words = [{**each, "word": each["text"]} for each in spoken]
        last = max((float(each["end"]) for each in told), default=0.0)
        transcript = Transcript(
            text=str(document["text"]),
            seconds=seconds_told(document.get("audio_duration_secs")) or seconds_told(last),
            language=str(document.get("language_code") or ""),
            words=[
                {name: each[name] for name in ("word", "start", "end")}
                for each in transcripts.timed(words, "word")
            ],
        )
        self.usage = transcripts.usage_of(self._call, transcript, None)
        return transcripts.written(self._call, transcript, self.usage)
