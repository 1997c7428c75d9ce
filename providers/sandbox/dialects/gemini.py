"""Gemini's dialect: generateContent, streamGenerateContent and the embedding methods."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from providers.sandbox.dialects.dialect import (
    CHAT,
    EMBEDDINGS,
    MODELS,
    Answer,
    Event,
    Refused,
    Request,
    encoded,
    is_bad,
    mapping,
    objects,
    positive,
    sse,
    strings,
)
from providers.sandbox.dialects.openai import MODEL_NAMES
from providers.sandbox.generate import reply
from providers.sandbox.prompt import Choice, Finish, Prompt, Reply, Speaker, Tool, Turn, words
from providers.sandbox.vectors import size_of, vector

_METHOD = re.compile(r"/models/([^/:]+):(\w+)$")
_OPERATIONS = {
    "generateContent": CHAT,
    "streamGenerateContent": CHAT,
    "embedContent": EMBEDDINGS,
    "batchEmbedContents": EMBEDDINGS,
}
_MODES = {"ANY": Choice.REQUIRED, "NONE": Choice.NONE}
_SPEAKERS = {"user": Speaker.USER, "model": Speaker.ASSISTANT}

# A result that is no object travels under one of these names; it is the result all the same.
_WRAPPERS = ("output", "result", "content")

# status → Google's canonical code, message
_ERRORS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "Method doesn't allow unregistered callers."),
    404: ("NOT_FOUND", "The model is not found for this API version."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
_INTERNAL = ("INTERNAL", "An internal error has occurred.")
_RPC = "type.googleapis.com/google.rpc."


class Gemini:
    name = "gemini"

    def operation(self, request: Request) -> str | None:
        if request.method == "POST" and (match := _METHOD.search(request.path)):
            return _OPERATIONS.get(match[2])
        listed = request.method == "GET" and request.path == "/v1beta/models"
        return MODELS if listed else None

    def answer(self, request: Request, operation: str) -> Answer:
        _authorize(request)
        match = _METHOD.search(request.path)
        if not match:
            return _models()
        if operation == EMBEDDINGS:
            return _embeddings(request, match[1], batch=match[2].startswith("batch"))
        return _chat(request, match[1], streamed=match[2].startswith("stream"))

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        status, message = _ERRORS.get(refused.status, _INTERNAL)
        message = refused.message or message
        details: list[dict[str, Any]] = []
        if refused.code == "API_KEY_INVALID":
            details.append({"@type": f"{_RPC}ErrorInfo", "reason": refused.code})
        if refused.retry_after is not None:
            # Google tells the wait in the body alone.
            message += f"\nPlease retry in {refused.retry_after}s."
            details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{refused.retry_after}s"})
        error: dict[str, Any] = {"code": refused.status, "message": message, "status": status}
        if details:
            error["details"] = details
        return Answer(operation, encoded({"error": error}), refused.status)

    def broken_off(self) -> bytes:
        status, message = _ERRORS[503]
        return _line({"error": {"code": 503, "message": message, "status": status}})


def _line(document: Mapping[str, Any]) -> bytes:
    return sse(document, end=b"\r\n\r\n")


def _authorize(request: Request) -> None:
    query = parse_qs(request.query).get("key", [""])
    secret = request.headers.get("x-goog-api-key", "") or query[0]
    if not secret:
        raise Refused(403)
    if is_bad(secret):
        message = "API key not valid. Please pass a valid API key."
        raise Refused(400, message, code="API_KEY_INVALID")


def _models() -> Answer:
    methods = ["generateContent", "streamGenerateContent", "embedContent"]
    models = [
        {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
        for name in MODEL_NAMES
    ]
    return Answer(MODELS, encoded({"models": models}))


def _chat(request: Request, model: str, *, streamed: bool) -> Answer:
    prompt = _prompt(request.document(), model)
    made = reply(prompt)
    chunks = list(_chunks(model, made, usage=request.with_usage))
    events, body = None, _whole(model, made, usage=request.with_usage)
    if streamed and "alt=sse" in request.query:
        events = tuple(Event(_line(chunk), tokens) for chunk, tokens in chunks)
    return Answer(
        CHAT,
        # Without alt=sse, Google streams the chunks as one JSON list.
        encoded([chunk for chunk, _ in chunks] if streamed else body),
        content_type="application/json; charset=UTF-8",
        model=model,
        input_tokens=made.input_tokens,
        output_tokens=made.output_tokens,
        events=events,
    )


def _prompt(document: Mapping[str, Any], model: str) -> Prompt:
    contents = objects(document.get("contents"))
    if not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified\n")
    config = mapping(document.get("generationConfig"))
    calling = mapping(mapping(document.get("toolConfig")).get("functionCallingConfig"))
    allowed = strings(calling.get("allowedFunctionNames"))
    declared = tuple(tool for tool in _tools(document) if not allowed or tool.name in allowed)
    system = mapping(document.get("systemInstruction") or document.get("system_instruction"))
    spoken = (turn for content in contents for turn in _turns(content))
    return Prompt(
        model=model,
        turns=(Turn(Speaker.SYSTEM, _text(objects(system.get("parts")))), *spoken),
        tools=declared,
        choice=_MODES.get(str(calling.get("mode")), Choice.AUTO),
        schema=_schema(config),
        max_tokens=positive(config, "maxOutputTokens"),
        stop=strings(config.get("stopSequences")),
    )


def _tools(document: Mapping[str, Any]) -> Iterator[Tool]:
    for group in objects(document.get("tools")):
        for declared in objects(group.get("functionDeclarations")):
            schema = declared.get("parametersJsonSchema") or declared.get("parameters")
            yield Tool(str(declared.get("name", "")), mapping(schema))


def _schema(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if config.get("responseMimeType") != "application/json":
        return None
    return mapping(config.get("responseJsonSchema") or config.get("responseSchema"))


def _turns(content: Mapping[str, Any]) -> Iterator[Turn]:
    speaker = _SPEAKERS.get(str(content.get("role", "user")))
    if speaker is None:
        raise Refused(400, "Please use a valid role: user, model.")
    parts = objects(content.get("parts"))
    results = [_result(part["functionResponse"]) for part in parts if "functionResponse" in part]
    for result in results:
        yield Turn(Speaker.TOOL, values=(result,))
    calls = [mapping(part["functionCall"]) for part in parts if "functionCall" in part]
    images = sum("inlineData" in part or "fileData" in part for part in parts)
    if len(results) < len(parts) or not parts:
        values = tuple(call.get("args", {}) for call in calls)
        yield Turn(speaker, _text(parts), images, values)


def _text(parts: list[Mapping[str, Any]]) -> str:
    return "\n".join(str(part["text"]) for part in parts if part.get("text"))


def _result(response: Any) -> Any:
    given = mapping(mapping(response).get("response"))
    name = next(iter(given), "")
    return given[name] if len(given) == 1 and name in _WRAPPERS else dict(given)


def _usage(made: Reply, output_tokens: int) -> dict[str, Any]:
    return {
        "promptTokenCount": made.input_tokens,
        "candidatesTokenCount": output_tokens,
        "totalTokenCount": made.input_tokens + output_tokens,
    }


def _document(
    model: str, made: Reply, candidate: Mapping[str, Any], usage: Mapping[str, Any] | None
) -> dict[str, Any]:
    told = {"usageMetadata": usage} if usage else {}
    return {
        "candidates": [{"index": 0, **candidate}],
        **told,
        "modelVersion": model,
        "responseId": made.id,
    }


def _candidate(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": parts}}


def _finish(made: Reply) -> str:
    return "MAX_TOKENS" if made.finish is Finish.LENGTH else "STOP"


def _call_parts(made: Reply) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": call.name, "args": call.arguments}} for call in made.calls]


def _whole(model: str, made: Reply, *, usage: bool) -> dict[str, Any]:
    candidate = _candidate(_call_parts(made) or [{"text": made.text}])
    candidate["finishReason"] = _finish(made)
    told = _usage(made, made.output_tokens) if usage else None
    return _document(model, made, candidate, told)


def _chunks(model: str, made: Reply, *, usage: bool) -> Iterator[tuple[dict[str, Any], int]]:
    """Each chunk with the tokens that it adds; the last one bears the finish reason."""
    parts: list[tuple[dict[str, Any], int]] = [({"text": piece}, 1) for piece in made.pieces]
    calls = zip(_call_parts(made), made.calls, strict=True)
    parts += [(part, call.tokens) for part, call in calls]
    sent = 0
    for part, tokens in parts:
        sent += tokens
        told = _usage(made, sent) if usage else None
        yield _document(model, made, _candidate([part]), told), tokens
    ended = {**_candidate([{"text": ""}]), "finishReason": _finish(made)}
    yield _document(model, made, ended, _usage(made, sent) if usage else None), 0


def _embeddings(request: Request, model: str, *, batch: bool) -> Answer:
    document = request.document()
    asked = objects(document.get("requests")) if batch else [document]
    if not asked:
        raise Refused(400, "* BatchEmbedContentsRequest.requests: requests is not specified\n")
    embedded = [_embedded(each, model) for each in asked]
    tokens = max(1, sum(count for _, count in embedded))
    values = [values for values, _ in embedded]
    body = {"embeddings": values} if batch else {"embedding": values[0]}
    return Answer(EMBEDDINGS, encoded(body), model=model, input_tokens=tokens)


def _embedded(asked: Mapping[str, Any], model: str) -> tuple[dict[str, Any], int]:
    text = _text(objects(mapping(asked.get("content")).get("parts")))
    if not text:
        raise Refused(400, "* EmbedContentRequest.content: content is not specified\n")
    size = size_of(model, positive(asked, "outputDimensionality"))
    return {"values": vector(model, text, size)}, words(text)
