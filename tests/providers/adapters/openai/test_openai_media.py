"""Ranks, verdicts, images and transcripts in OpenAI's dialect, and the services that speak it
nearly: recorded answers come out as the openai package's own types, and hostile ones not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai.types import CreateEmbeddingResponse, ImagesResponse, ModerationCreateResponse
from openai.types.audio import Transcription, TranscriptionVerbose

from lib.multipart import parse
from providers.adapter import StreamFault, Unsupported
from providers.adapters.openai import ADAPTER
from providers.call import Answer, Call, Outcome, Upload, Upstream, Usage, Verdict
from providers.catalogue import read_document
from providers.catalogue.documents import FOLDER as CATALOGUE

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai"
FILE = Upload("a.wav", "audio/wav", bytes(64_000), 64_200)


def upstream(slug: str = "lab", model: str = "m") -> Upstream:
    """The catalogue's provider, or one that says nothing of itself."""
    settings: dict[str, Any] = {}
    if slug != "lab":
        settings = read_document(CATALOGUE / f"{slug}.yaml").document.get("settings", {})
    return Upstream(slug, f"https://{slug}.example/v1", model, "key", settings)


def call(operation: str, **params: Any) -> Call:
    file = FILE if operation == "audio.transcriptions" else None
    return Call(operation, {"model": "alias", **params}, request_id="req-1", file=file)


def recorded(name: str) -> dict[str, Any]:
    response: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())["response"]
    return response


def read(asked: Call, document: Any, at: Upstream | None = None) -> tuple[Any, Usage | None]:
    """What the client is answered, and what it is billed for."""
    body = orjson.dumps(document)
    outcome = ADAPTER.outcome(200, {"content-type": "application/json"}, body)
    assert outcome.is_answer, outcome
    meter = ADAPTER.meter(asked, at or upstream())
    answer: Answer = meter.whole(outcome, body)
    assert meter.complete
    return orjson.loads(answer.body), meter.usage


def sent(asked: Call, at: Upstream) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(ADAPTER.request(asked, at).body or b"")
    return document


RANK = call("rerank", query="what is ruby", documents=["Paris", {"text": "Ruby"}], top_n=2)


# Rerank


@pytest.mark.parametrize(
    "name", ["voyage/ai.rerank--rerank", "openrouter/ai.rerank--voyage-via-openrouter"]
)
def test_recorded_ranks(name: str) -> None:
    answer, usage = read(RANK, recorded(name)["body"])
    assert [each["index"] for each in answer["results"]] == [1, 0]
    assert all(set(each) == {"index", "relevance_score"} for each in answer["results"])
    assert usage is not None
    assert usage.input_tokens == answer["usage"]["total_tokens"] > 0


def test_together_s_ranks() -> None:
    documents = ["a"] * 6
    answer, usage = read(
        call("rerank", query="q", documents=documents),
        recorded("together/ai.rerank--rerank")["body"],
    )
    assert [each["index"] for each in answer["results"]] == [0, 5]
    assert usage == Usage(2966)


def test_documents_come_back_from_us_and_only_when_asked() -> None:
    asked = call("rerank", query="q", documents=["Paris", {"text": "Ruby"}], return_documents=True)
    told = {"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.9}]}
    answer, usage = read(asked, told)
    assert [each["document"]["text"] for each in answer["results"]] == ["Paris", "Ruby"]
    assert usage is not None
    assert usage.estimated


def test_what_services_are_asked_for_a_rank() -> None:
    assert sent(RANK, upstream("jina", "j")) == {
        "model": "j",
        "query": "what is ruby",
        "documents": ["Paris", "Ruby"],
        "top_n": 2,
    }
    assert sent(RANK, upstream("voyage", "v"))["top_k"] == 2
    assert "top_n" not in sent(RANK, upstream("voyage", "v"))
    assert ADAPTER.request(RANK, upstream("voyage")).url == "https://voyage.example/v1/rerank"


NO_RANKS: dict[str, Any] = {
    "no results": {},
    "no list": {"results": 7},
    "no such document": {"results": [{"index": 2, "relevance_score": 1}]},
    "a negative place": {"results": [{"index": -1, "relevance_score": 1}]},
    "a place twice": {"results": [{"index": 1, "relevance_score": 1}] * 2},
    "no score": {"results": [{"index": 1}]},
    "a score of text": {"results": [{"index": 1, "relevance_score": "high"}]},
    "a place of truth": {"results": [{"index": True, "relevance_score": 1}]},
}


@pytest.mark.parametrize("told", NO_RANKS.values(), ids=NO_RANKS.keys())
def test_what_is_no_rank_is_no_answer(told: Any) -> None:
    refused(RANK, told)


def refused(asked: Call, told: Any) -> Outcome:
    with pytest.raises(StreamFault) as fault:
        ADAPTER.meter(asked, upstream()).whole(Outcome(Verdict.OK, 200, document=told), b"{}")
    return fault.value.outcome


# Embeddings of services that are no OpenAI


def test_voyage_s_embeddings_become_openai_s() -> None:
    asked = call("embeddings", input="x", dimensions=256, encoding_format="float")
    assert sent(asked, upstream("voyage", "v")) == {
        "model": "v",
        "input": "x",
        "output_dimension": 256,
    }
    told = recorded("voyage/ai.embeddings--one")["body"]
    answer, usage = read(asked, told, upstream("voyage"))
    assert CreateEmbeddingResponse.model_validate(answer).usage.prompt_tokens > 0
    assert usage is not None
    assert (usage.input_tokens, usage.estimated) == (told["usage"]["total_tokens"], False)
    with pytest.raises(Unsupported):
        sent(call("embeddings", input="x", user="u"), upstream("voyage"))


def test_jina_has_its_own_word_for_the_form() -> None:
    asked = sent(call("embeddings", input="x", encoding_format="base64"), upstream("jina"))
    assert asked["embedding_type"] == "base64"
    assert "encoding_format" not in asked


# Moderations


@pytest.mark.parametrize("name", ["openai/ai.moderation--recorded", "openai/ai.moderation--text"])
def test_recorded_verdicts_pass_as_they_came(name: str) -> None:
    told = recorded(name)["body"]
    answer, usage = read(call("moderations", input="This is a safe message"), told)
    assert answer == told
    assert not ModerationCreateResponse.model_validate(answer).results[0].flagged
    assert usage is not None
    assert usage.estimated


def test_mistral_says_by_category_only() -> None:
    results = [{"categories": {"violence": True}, "category_scores": {"violence": 0.9}}]
    told = {
        "id": "m",
        "model": "x",
        "results": results,
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    answer, usage = read(call("moderations", input="x"), told)
    assert answer["results"][0]["flagged"] is True
    assert usage == Usage(5)


@pytest.mark.parametrize(
    "told", [{}, {"results": []}, {"results": [{}]}, {"results": [{"categories": {}}]}]
)
def test_what_is_no_verdict_is_no_answer(told: Any) -> None:
    refused(call("moderations", input="x"), told)


# Images


PAINT = call("image.generations", prompt="a cat", n=2, size="1792x1024")


def test_images_are_counted_by_megapixels_and_by_tokens_where_told() -> None:
    data = [{"b64_json": "aGk="}] * 2
    usage = {"input_tokens": 5, "output_tokens": 3000, "total_tokens": 3005}
    usage["input_tokens_details"] = {"text_tokens": 5, "image_tokens": 0}  # type: ignore[assignment]
    answer, counted = read(PAINT, {"created": 1, "data": data, "usage": usage})
    assert ImagesResponse.model_validate(answer).data
    assert counted == Usage(5, 3000, units=4)
    answer, counted = read(PAINT, {"data": data})
    assert answer["created"] > 0, "Together tells no time"
    assert counted == Usage(units=4)


def test_each_service_s_words_for_images() -> None:
    b64 = Call(PAINT.operation, PAINT.params | {"response_format": "b64_json"})
    at_openai = sent(b64, upstream("openai", "gpt-image-1"))
    assert at_openai == {"model": "gpt-image-1", "prompt": "a cat", "n": 2, "size": "1792x1024"}
    at_together = sent(b64, upstream("together", "flux"))
    assert at_together["response_format"] == "base64"
    assert (at_together["width"], at_together["height"]) == (1792, 1024)
    assert "size" not in at_together
    url = Call(PAINT.operation, PAINT.params | {"response_format": "url"})
    with pytest.raises(Unsupported):
        sent(url, upstream("openai", "gpt-image-1"))


@pytest.mark.parametrize("told", [{"data": []}, {"data": [{}]}, {"data": "x"}, {"created": 1}])
def test_what_is_no_image_is_no_answer(told: Any) -> None:
    assert refused(PAINT, told).verdict is Verdict.BAD_PAYLOAD


def test_a_blocked_prompt_is_the_caller_s_fault() -> None:
    error = {
        "message": "Your request was rejected.",
        "type": "x",
        "code": "content_policy_violation",
    }
    outcome = ADAPTER.outcome(400, {}, orjson.dumps({"error": error}))
    with pytest.raises(StreamFault) as fault:
        ADAPTER.meter(PAINT, upstream()).whole(outcome, b"")
    assert fault.value.outcome.verdict is Verdict.INVALID_REQUEST


@pytest.mark.parametrize("name", ["error-bad-content-type", "error-response-format"])
def test_recorded_refusals_of_images(name: str) -> None:
    told = recorded(f"openai/ai.image--{name}")
    outcome = ADAPTER.outcome(told["status"], {}, orjson.dumps(told["body"]))
    assert outcome.verdict is Verdict.INVALID_REQUEST
    assert outcome.param


# Transcription


HEARD = {
    "openai/ai.transcribe--whisper": Usage(units=4),
    "openai/ai.transcribe--transcription-vercel": Usage(units=37),
    "mistral/ai.transcribe--voxtral": Usage(3, 11, units=3),
    "mistral/ai.transcribe--transcription": Usage(13, 151, units=36),
}


@pytest.mark.parametrize("name", HEARD)
def test_recorded_transcripts(name: str) -> None:
    told = recorded(name)["body"]
    plain, usage = read(call("audio.transcriptions"), told)
    assert Transcription.model_validate(plain).text == told["text"]
    assert usage == HEARD[name]._replace(cached_tokens=usage.cached_tokens if usage else 0)
    detailed, _ = read(call("audio.transcriptions", response_format="verbose_json"), told)
    verbose = TranscriptionVerbose.model_validate(detailed)
    assert verbose.text == told["text"]


def test_tokens_of_sound() -> None:
    usage = {"type": "tokens", "input_tokens": 37, "output_tokens": 12, "total_tokens": 49}
    answer, counted = read(call("audio.transcriptions"), {"text": "hi", "usage": usage})
    assert counted == Usage(37, 12)
    assert answer["usage"]["total_tokens"] == 49


@pytest.mark.parametrize("told", [{}, {"text": "x", "words": [{}]}, {"text": "x", "segments": 7}])
def test_what_is_no_transcript_is_no_answer(told: Any) -> None:
    refused(call("audio.transcriptions"), told)


def form_at(slug: str, model: str = "m", **params: Any) -> dict[str, bytes]:
    request = ADAPTER.request(call("audio.transcriptions", **params), upstream(slug, model))
    parts = parse(request.headers["content-type"], request.body or b"")
    return {part.name: part.content for part in parts if part.name != "file"}


def test_each_service_is_asked_for_times_in_its_own_way() -> None:
    assert form_at("openai", "whisper-1") == {"model": b"whisper-1", "response_format": b"json"}
    assert (
        form_at("openai", "whisper-1", response_format="srt")["response_format"] == b"verbose_json"
    )
    assert form_at("groq")["response_format"] == b"verbose_json", "its length is told nowhere else"
    assert form_at("mistral") == {"model": b"m"}
    assert form_at("mistral", response_format="vtt")["timestamp_granularities"] == b"segment"
    with pytest.raises(Unsupported):
        form_at("openai", "gpt-4o-transcribe", response_format="srt")


def test_what_a_service_does_not_take_is_refused_in_a_form_too() -> None:
    with pytest.raises(Unsupported):
        form_at("mistral", prompt="Züri")


def test_a_short_recording_is_billed_as_the_service_says() -> None:
    _, usage = read(call("audio.transcriptions"), {"text": "x", "duration": 1.2}, upstream("groq"))
    assert usage == Usage(units=10)


@pytest.mark.parametrize("length", [-1, 0, True, "3", 1e300, None, [1]])
def test_an_absurd_length_counts_as_not_told(length: Any) -> None:
    _, usage = read(call("audio.transcriptions"), {"text": "x", "duration": length})
    assert usage == Usage(units=4, estimated=True)
