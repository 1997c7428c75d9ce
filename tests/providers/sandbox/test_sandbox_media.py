"""The sandbox's ranks, verdicts, pictures and sounds, through our own adapters and as they are."""

from __future__ import annotations

import base64
import io
import struct
import wave
import zlib
from typing import Any

import httpx2
import orjson
import pytest

from providers.call import Call, Upload, Upstream, Usage, Verdict
from providers.dialects import adapter_for
from providers.sandbox.server import SandboxServer

BASES = {
    "openai": ("openai", "/openai/v1"),
    "voyage": ("openai", "/voyage/v1"),
    "cohere": ("cohere", "/cohere"),
    "deepgram": ("deepgram", "/deepgram/v1"),
    "elevenlabs": ("elevenlabs", "/elevenlabs/v1"),
}
RECORDING = Upload("a.wav", "audio/wav", bytes(16_000), 16_200)
SETTINGS = {"voyage": {"renamed_parameters": {"top_n": "top_k"}}}


def ask(
    sandbox: SandboxServer, slug: str, operation: str, fault: str = "", **params: Any
) -> tuple[httpx2.Response, Any, Call, Upstream]:
    adapter, base = BASES[slug]
    file = RECORDING if operation == "audio.transcriptions" else None
    call = Call(operation, {"model": "m", **params}, request_id="r", file=file)
    upstream = Upstream(slug, sandbox.url + base, "model-x", "sk-test", SETTINGS.get(slug, {}))
    request = adapter_for(adapter).request(call, upstream)
    headers = {**request.headers, **({"x-sandbox-fault": fault} if fault else {})}
    with httpx2.Client() as client:
        answer = client.request(request.method, request.url, content=request.body, headers=headers)
    return answer, adapter_for(adapter), call, upstream


def told(sandbox: SandboxServer, slug: str, operation: str, **params: Any) -> tuple[Any, Usage]:
    answer, adapter, call, upstream = ask(sandbox, slug, operation, **params)
    outcome = adapter.outcome(answer.status_code, answer.headers, answer.content)
    assert outcome.verdict is Verdict.OK, outcome
    meter = adapter.meter(call, upstream)
    document = orjson.loads(meter.whole(outcome, answer.content).body)
    assert meter.usage is not None
    return document, meter.usage


@pytest.mark.parametrize("slug", ["openai", "voyage", "cohere"])
def test_the_best_document_comes_first(sandbox: SandboxServer, slug: str) -> None:
    documents = ["paris is a city", "ruby is a language", "a ruby is a stone"]
    ranked, usage = told(
        sandbox, slug, "rerank", query="ruby language", documents=documents, top_n=2
    )
    assert [each["index"] for each in ranked["results"]] == [1, 2]
    assert not usage.estimated


def test_a_verdict_names_what_it_found(sandbox: SandboxServer) -> None:
    judged, _ = told(sandbox, "openai", "moderations", input=["kind words", "violence"])
    assert [each["flagged"] for each in judged["results"]] == [False, True]
    assert judged["results"][1]["categories"]["violence"]


def test_pictures_are_pngs(sandbox: SandboxServer) -> None:
    made, _ = told(
        sandbox, "openai", "image.generations", prompt="a cat", n=2, response_format="b64_json"
    )
    pictures = [base64.b64decode(each["b64_json"]) for each in made["data"]]
    assert pictures[0] != pictures[1]
    for picture in pictures:
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        size, name = struct.unpack(">I4s", picture[8:16])
        checked = picture[12 : 16 + size]
        assert (name, size) == (b"IHDR", 13)
        assert struct.unpack(">I", picture[16 + size : 20 + size])[0] == zlib.crc32(checked)


@pytest.mark.parametrize(
    ("slug", "form", "kind"),
    [
        ("openai", "wav", "audio/wav"),
        ("openai", "mp3", "audio/mpeg"),
        ("openai", "opus", "audio/opus"),
        ("elevenlabs", "mp3", "audio/mpeg"),
        ("elevenlabs", "pcm", "audio/pcm"),
    ],
)
def test_sound_is_what_it_says(sandbox: SandboxServer, slug: str, form: str, kind: str) -> None:
    spoken = {"input": "four words of text", "voice": "alloy", "response_format": form}
    answer, *_ = ask(sandbox, slug, "audio.speech", **spoken)
    assert answer.headers["content-type"] == kind
    again, *_ = ask(sandbox, slug, "audio.speech", **spoken)
    assert again.content == answer.content
    if form == "wav":
        with wave.open(io.BytesIO(answer.content)) as sound:
            assert sound.getnframes() / sound.getframerate() == 1.0
    if form == "mp3":
        assert answer.content.startswith(b"\xff\xfb")


@pytest.mark.parametrize("slug", ["openai", "deepgram", "elevenlabs"])
def test_a_recording_is_heard_and_its_length_told(sandbox: SandboxServer, slug: str) -> None:
    detailed, usage = told(sandbox, slug, "audio.transcriptions", response_format="verbose_json")
    assert detailed["text"].startswith("the sandbox heard ")
    assert detailed["duration"] == 2.0
    assert usage == Usage(units=2)


REFUSALS = [
    (slug, operation, status, verdict)
    for slug, operation in (
        ("openai", "rerank"),
        ("cohere", "rerank"),
        ("elevenlabs", "audio.speech"),
        ("deepgram", "audio.transcriptions"),
    )
    for status, verdict in (
        (401, Verdict.AUTH),
        (429, Verdict.RATE_LIMITED),
        (503, Verdict.UNAVAILABLE),
    )
]


@pytest.mark.parametrize(("slug", "operation", "status", "verdict"), REFUSALS)
def test_refusals_are_the_provider_s_own(
    sandbox: SandboxServer, slug: str, operation: str, status: int, verdict: Verdict
) -> None:
    params: dict[str, Any] = {"query": "q", "documents": ["d"]} if operation == "rerank" else {}
    if operation == "audio.speech":
        params = {"input": "x", "voice": "y"}
    answer, adapter, *_ = ask(sandbox, slug, operation, fault=f"status={status}", **params)
    outcome = adapter.outcome(answer.status_code, answer.headers, answer.content)
    assert (answer.status_code, outcome.verdict) == (status, verdict)
    assert outcome.message
