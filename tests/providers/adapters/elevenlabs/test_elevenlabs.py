"""ElevenLabs: voices in the path, formats in the query, and answers in OpenAI's words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.audio import TranscriptionVerbose

from lib.multipart import parse
from providers.adapter import StreamFault, Unsupported
from providers.adapters.elevenlabs import ADAPTER
from providers.call import Call, Outcome, Upload, Upstream, Usage, Verdict

SETTINGS = {"voices": {"alloy": "VOICE1"}}
UPSTREAM = Upstream("eleven", "https://e.example/v1", "flash", "secret", SETTINGS)
FILE = Upload("a.mp3", "audio/mpeg", b"sound", 300)


def say(**params: Any) -> Call:
    return Call("audio.speech", {"model": "m", "input": "hello", "voice": "alloy", **params})


def listen(**params: Any) -> Call:
    return Call(
        "audio.transcriptions", {"model": "m", "file": "a", **params}, request_id="r", file=FILE
    )


def test_speech() -> None:
    request = ADAPTER.request(say(speed=1.1), UPSTREAM)
    path = "/v1/text-to-speech/VOICE1/stream?output_format=mp3_44100_128"
    assert request.url == f"https://e.example{path}"
    assert request.headers["xi-api-key"] == "secret"
    assert orjson.loads(request.body or b"") == {
        "text": "hello",
        "model_id": "flash",
        "voice_settings": {"speed": 1.1},
    }
    assert "pcm_24000" in ADAPTER.request(say(response_format="pcm"), UPSTREAM).url


def test_a_voice_cannot_lead_elsewhere() -> None:
    url = ADAPTER.request(say(voice="../../user?x=#"), UPSTREAM).url
    assert url.startswith("https://e.example/v1/text-to-speech/..%2F..%2Fuser%3Fx%3D%23/stream?")


@pytest.mark.parametrize("params", [{"response_format": "flac"}, {"instructions": "softly"}])
def test_what_it_cannot_express_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        ADAPTER.request(say(**params), UPSTREAM)


def test_transcription() -> None:
    request = ADAPTER.request(listen(language="en"), UPSTREAM)
    assert request.url == "https://e.example/v1/speech-to-text"
    parts = {p.name: p.content for p in parse(request.headers["content-type"], request.body or b"")}
    assert parts == {"model_id": b"flash", "language_code": b"en", "file": b"sound"}


def test_a_transcript() -> None:
    told = {
        "language_code": "eng",
        "text": "Hello there.",
        "words": [
            {"text": "Hello", "start": 0.1, "end": 0.5, "type": "word"},
            {"text": " ", "start": 0.5, "end": 0.6, "type": "spacing"},
            {"text": "there.", "start": 0.6, "end": 2.2, "type": "word"},
        ],
    }
    body = orjson.dumps(told)
    meter = ADAPTER.meter(listen(response_format="verbose_json"), UPSTREAM)
    answer = meter.whole(ADAPTER.outcome(200, {}, body), body)
    verbose = TranscriptionVerbose.model_validate_json(answer.body)
    assert verbose.segments
    assert [each.text for each in verbose.segments] == ["Hello there."]
    assert meter.usage == Usage(units=3)


FAILURES = [
    (401, {"detail": {"status": "invalid_api_key", "message": "Invalid API key"}}, Verdict.AUTH),
    (401, {"detail": {"status": "quota_exceeded", "message": "x"}}, Verdict.QUOTA_EXHAUSTED),
    (404, {"detail": {"status": "voice_not_found", "message": "x"}}, Verdict.BLOCKED),
    (422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, Verdict.INVALID_REQUEST),
    (
        429,
        {"detail": {"status": "too_many_concurrent_requests", "message": "x"}},
        Verdict.RATE_LIMITED,
    ),
    (429, {"detail": {"status": "system_busy", "message": "x"}}, Verdict.UNAVAILABLE),
    (500, {}, Verdict.UNAVAILABLE),
    (200, 7, Verdict.BAD_PAYLOAD),
]


@pytest.mark.parametrize(("status", "told", "verdict"), FAILURES)
def test_failures(status: int, told: Any, verdict: Verdict) -> None:
    assert ADAPTER.outcome(status, {}, orjson.dumps(told)).verdict is verdict


@pytest.mark.parametrize("told", [{}, {"text": "x", "words": [{"text": "x"}]}, {"words": []}])
def test_what_is_no_transcript_is_no_answer(told: Any) -> None:
    with pytest.raises(StreamFault):
        ADAPTER.meter(listen(), UPSTREAM).whole(Outcome(Verdict.OK, 200, document=told), b"")
