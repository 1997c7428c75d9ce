"""Deepgram: a recording as the body, what is asked in the query, an answer in OpenAI's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from openai.types.audio import TranscriptionVerbose

from providers.adapter import StreamFault, Unsupported
from providers.adapters.deepgram import ADAPTER
from providers.call import Call, Outcome, Upload, Upstream, Usage, Verdict

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai/deepgram"
UPSTREAM = Upstream("deepgram", "https://d.example/v1", "nova-3", "secret")
FILE = Upload("a.mp3", "audio/mpeg", b"sound", 300)
OPERATION = "audio.transcriptions"


def call(**params: Any) -> Call:
    return Call(OPERATION, {"model": "m", "file": "a.mp3", **params}, file=FILE)


def test_the_request() -> None:
    request = ADAPTER.request(call(language="en", diarize="true"), UPSTREAM)
    where = urlsplit(request.url)
    assert (where.netloc, where.path) == ("d.example", "/v1/listen")
    assert parse_qs(where.query) == {
        "model": ["nova-3"],
        "smart_format": ["true"],
        "diarize": ["true"],
        "language": ["en"],
    }
    assert request.body == b"sound"
    assert request.headers == {"content-type": "audio/mpeg", "authorization": "Token secret"}
    assert "detect_language=true" in ADAPTER.request(call(), UPSTREAM).url


def test_what_it_cannot_express_is_refused() -> None:
    with pytest.raises(Unsupported) as refused:
        ADAPTER.request(call(prompt="Züri"), UPSTREAM)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize(("name", "seconds"), [("nova-3", 4), ("transcription", 37)])
def test_recordings(name: str, seconds: int) -> None:
    told = json.loads((FOLDER / f"ai.transcribe--{name}.json").read_text())["response"]["body"]
    body = orjson.dumps(told)
    outcome = ADAPTER.outcome(200, {}, body)
    meter = ADAPTER.meter(call(response_format="verbose_json"), UPSTREAM)
    answer = TranscriptionVerbose.model_validate_json(meter.whole(outcome, body).body)
    assert answer.text
    assert answer.segments
    assert answer.segments[0].text.split()[0].lower() == answer.text.split()[0].lower()
    assert meter.usage == Usage(units=seconds)


FAILURES = [
    (401, {"err_code": "INVALID_AUTH", "err_msg": "Invalid credentials."}, Verdict.AUTH),
    (402, {"err_code": "ASR_PAYMENT_REQUIRED", "err_msg": "No funds."}, Verdict.QUOTA_EXHAUSTED),
    (403, {"err_code": "INSUFFICIENT_PERMISSIONS", "err_msg": "No."}, Verdict.BLOCKED),
    (
        400,
        {"err_code": "Bad Request", "err_msg": "failed to process audio"},
        Verdict.INVALID_REQUEST,
    ),
    (429, {"err_code": "TOO_MANY_REQUESTS", "err_msg": "Too many"}, Verdict.RATE_LIMITED),
    (503, {"err_code": "X", "err_msg": "Later."}, Verdict.UNAVAILABLE),
    (504, {}, Verdict.TIMEOUT),
    (200, [], Verdict.BAD_PAYLOAD),
]


@pytest.mark.parametrize(("status", "told", "verdict"), FAILURES)
def test_failures(status: int, told: Any, verdict: Verdict) -> None:
    outcome = ADAPTER.outcome(status, {}, orjson.dumps(told))
    assert outcome.verdict is verdict
    if told:
        assert outcome.message == told["err_msg"]


@pytest.mark.parametrize(
    "told", [{}, {"results": {"channels": []}}, {"results": 7, "metadata": {}}]
)
def test_what_is_no_transcript_is_no_answer(told: Any) -> None:
    with pytest.raises(StreamFault):
        ADAPTER.meter(call(), UPSTREAM).whole(Outcome(Verdict.OK, 200, document=told), b"")
