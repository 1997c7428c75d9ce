"""OpenAI's dialect beside chat and embeddings, and what Voyage says otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from providers.amounts import IMAGES, MODERATIONS, RERANK, SPEECH, TRANSCRIPTIONS
from providers.sandbox.dialects import media
from providers.sandbox.dialects.dialect import Answer, Refused, Request, encoded, positive, required
from providers.sandbox.prompt import words

CREATED = 1_767_225_600

PATHS: Mapping[tuple[str, str], str] = {
    ("POST", "/rerank"): RERANK,
    ("POST", "/moderations"): MODERATIONS,
    ("POST", "/images/generations"): IMAGES,
    ("POST", "/audio/speech"): SPEECH,
    ("POST", "/audio/transcriptions"): TRANSCRIPTIONS,
}


def answer(request: Request, operation: str) -> Answer:
    """Raises Refused."""
    if operation == TRANSCRIPTIONS:
        return _transcript(request)
    return _MAKERS[operation](request, request.document())


def _rerank(request: Request, document: Mapping[str, Any]) -> Answer:
    model = required(document, "model", str)
    is_voyage = request.provider == "voyage"
    results = media.ranked(document, top="top_k" if is_voyage else "top_n")
    tokens = media.tokens_ranked(document)
    body: dict[str, Any] = {"object": "list", "model": model, "data": results}
    if not is_voyage:
        body = {"id": "rerank-1", "object": "rerank", "model": model, "results": results}
    if request.with_usage:
        body["usage"] = {"total_tokens": tokens}
    return Answer(RERANK, encoded(body), model=model, input_tokens=tokens)


def _moderation(_: Request, document: Mapping[str, Any]) -> Answer:
    model = str(document.get("model", "omni-moderation-latest"))
    given = document.get("input")
    if not given or not isinstance(given, str | list):
        raise Refused(400, "'input' must be a text or a list.", param="input")
    results = [media.verdict(each) for each in (given if isinstance(given, list) else [given])]
    return Answer(
        MODERATIONS, encoded({"id": "modr-1", "model": model, "results": results}), model=model
    )


def _images(request: Request, document: Mapping[str, Any]) -> Answer:
    model, prompt = required(document, "model", str), required(document, "prompt", str)
    count = positive(document, "n") or 1
    told = document.get("response_format", "b64_json" if "gpt-image" in model else "url")
    if "gpt-image" in model and "response_format" in document:
        raise Refused(400, "Unknown parameter: 'response_format'.", param="response_format")
    images = [_image(prompt, number, told) for number in range(count)]
    body: dict[str, Any] = {"created": CREATED, "data": images}
    if request.with_usage and "gpt-image" in model:
        read, made = max(1, words(prompt)), 272 * count
        body["usage"] = {
            "input_tokens": read,
            "output_tokens": made,
            "total_tokens": read + made,
            "input_tokens_details": {"text_tokens": read, "image_tokens": 0},
        }
    return Answer(IMAGES, encoded(body), model=model, input_tokens=words(prompt))


def _image(prompt: str, number: int, told: str) -> dict[str, Any]:
    if told == "url":
        return {"url": f"https://sandbox.invalid/{number}.png"}
    return {"b64_json": media.picture(prompt, number)}


def _speech(_: Request, document: Mapping[str, Any]) -> Answer:
    model, text = required(document, "model", str), required(document, "input", str)
    required(document, "voice", str)
    form = document.get("response_format") or "mp3"
    if form not in media.SOUNDS:
        raise Refused(400, "No such response_format.", param="response_format")
    return Answer(
        SPEECH,
        media.sound(text, form),
        content_type=media.SOUNDS[form],
        model=model,
        input_tokens=words(text),
    )


def _transcript(request: Request) -> Answer:
    parts = media.form(request)
    if "file" not in parts or "model" not in parts:
        raise Refused(400, "'file' and 'model' are required.", param="file")
    model = parts["model"].content.decode()
    said, seconds = media.heard(parts["file"].content)
    form = parts["response_format"].content.decode() if "response_format" in parts else "json"
    if form not in ("json", "verbose_json"):
        raise Refused(400, "The sandbox gives json and verbose_json.", param="response_format")
    body: dict[str, Any] = {"text": media.sentence(said)}
    if form == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": seconds, "text": body["text"]}
        body |= {"task": "transcribe", "language": "english", "duration": seconds}
        body |= {"segments": [segment], "words": said}
    if request.with_usage:
        body["usage"] = {"type": "duration", "seconds": math.ceil(seconds)}
    return Answer(TRANSCRIPTIONS, encoded(body), model=model)


_MAKERS: Mapping[str, Callable[[Request, Mapping[str, Any]], Answer]] = {
    RERANK: _rerank,
    MODERATIONS: _moderation,
    IMAGES: _images,
    SPEECH: _speech,
}
