"""OpenAI's dialect, under any prefix (`/v1`, Azure's): chat completions, embeddings, models here.

Serves all providers that are OpenAI-compatible. Mistral words its errors in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from providers.sandbox.dialects import openai_media, openai_messages
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
    positive,
    required,
    sse,
    strings,
)
from providers.sandbox.generate import pieces, reply
from providers.sandbox.prompt import Finish, Prompt, Reply, ToolCall, words
from providers.sandbox.vectors import as_base64, size_of, vector

KEYLESS = frozenset({"ollama"})
MODEL_NAMES = ("sandbox-large", "sandbox-small", "sandbox-embedding")

# Answers are the same every time, so their clock stands still.
CREATED = openai_media.CREATED

_PATHS = {
    ("POST", "/chat/completions"): CHAT,
    ("POST", "/embeddings"): EMBEDDINGS,
    ("GET", "/models"): MODELS,
    **openai_media.PATHS,
}
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
_FINISHES = {Finish.STOP_SEQUENCE: "stop"}
_DONE = b"data: [DONE]\n\n"

# status → message, type, code
_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("The request is not valid.", "invalid_request_error", None),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("Your project may not use this model.", "invalid_request_error", "model_not_found"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    429: ("Rate limit reached: requests per minute.", "requests", "rate_limit_exceeded"),
    503: ("The engine is overloaded, try again later.", "server_error", None),
}
_SERVER_ERROR = ("The server had an error while processing your request.", "server_error", None)
_QUOTA = ("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")


class OpenAi:
    name = "openai"

    def operation(self, request: Request) -> str | None:
        for (method, suffix), operation in _PATHS.items():
            if request.method == method and request.path.endswith(suffix):
                return operation
        return None

    def answer(self, request: Request, operation: str) -> Answer:
        _authorize(request)
        if operation == MODELS:
            return _models(request)
        if operation in openai_media.PATHS.values():
            return openai_media.answer(request, operation)
        document = request.document()
        if operation == EMBEDDINGS:
            return _embeddings(request, document)
        return _chat(request, document)

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        usual = _SERVER_ERROR if refused.status >= 500 else _ERRORS[400]
        message, kind, code = _ERRORS.get(refused.status, usual)
        if refused.code == "insufficient_quota":
            message, kind, code = _QUOTA
        message = refused.message or message
        code = code if refused.code is None else refused.code or None
        error = {"message": message, "type": kind, "param": refused.param, "code": code}
        body: dict[str, Any] = {"error": error}
        if request.provider == "mistral":
            body = _mistral(refused.status, message, kind, code)
        headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        return Answer(operation, encoded(body), refused.status, headers=headers)

    def broken_off(self) -> bytes:
        message, kind, code = _SERVER_ERROR
        return sse({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _authorize(request: Request) -> None:
    # Azure takes the key in a header of its own.
    secret = request.bearer or request.headers.get("api-key", "")
    if is_bad(secret):
        raise Refused(401, f"Incorrect API key provided: {secret[:6]}***.")
    if not secret and request.provider not in KEYLESS:
        raise Refused(401, "You didn't provide an API key.", code="")


def _mistral(status: int, message: str, kind: str, code: str | None) -> dict[str, Any]:
    if status == 401:
        return {"detail": "Invalid API Key"}
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _model(request: Request, document: Mapping[str, Any]) -> str:
    if match := _DEPLOYMENT.search(request.path):
        return match[1]
    return str(required(document, "model", str))


def _models(request: Request) -> Answer:
    data = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": request.provider}
        for name in MODEL_NAMES
    ]
    return Answer(MODELS, encoded({"object": "list", "data": data}))


def _chat(request: Request, document: Mapping[str, Any]) -> Answer:
    prompt = _prompt(document, _model(request, document))
    made = reply(prompt)
    head = {"id": f"chatcmpl-{made.id}", "created": CREATED, "model": prompt.model}
    events = None
    if document.get("stream") is True:
        told = mapping(document.get("stream_options")).get("include_usage") is True
        events = tuple(_events(head, made, usage=told and request.with_usage))
    return Answer(
        CHAT,
        encoded(_completion(head, made, usage=request.with_usage)),
        model=prompt.model,
        input_tokens=made.input_tokens,
        output_tokens=made.output_tokens,
        events=events,
    )


def _prompt(document: Mapping[str, Any], model: str) -> Prompt:
    if document.get("n") not in (None, 1):
        raise Refused(400, "The sandbox gives one choice: 'n' must be 1.", param="n")
    choice, tools = openai_messages.chosen(
        document.get("tool_choice"), openai_messages.tools(document)
    )
    return Prompt(
        model=model,
        turns=openai_messages.turns(document),
        tools=tools,
        choice=choice,
        parallel=document.get("parallel_tool_calls") is not False,
        schema=_schema(mapping(document.get("response_format"))),
        max_tokens=positive(document, "max_completion_tokens", "max_tokens"),
        stop=strings(document.get("stop")),
    )


def _schema(wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if wanted.get("type") == "json_schema":
        return mapping(mapping(wanted.get("json_schema")).get("schema"))
    return {} if wanted.get("type") == "json_object" else None


def _usage(made: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": made.input_tokens,
        "completion_tokens": made.output_tokens,
        "total_tokens": made.input_tokens + made.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _finish(made: Reply) -> str:
    return _FINISHES.get(made.finish, made.finish.value)


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"call_{call.id}", "type": "function", "function": function}


def _completion(head: Mapping[str, Any], made: Reply, *, usage: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": made.text, "refusal": None}
    if made.calls:
        calls = [_call(call, call.text) for call in made.calls]
        message |= {"content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(made)}
    body = {**head, "object": "chat.completion", "choices": [choice]}
    return body | {"usage": _usage(made)} if usage else body


def _events(head: Mapping[str, Any], made: Reply, *, usage: bool) -> Iterator[Event]:
    chunk = {**head, "object": "chat.completion.chunk", **({"usage": None} if usage else {})}
    for delta, tokens in _deltas(made):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        yield Event(sse({**chunk, "choices": [choice]}), tokens)
    ended = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish(made)}
    yield Event(sse({**chunk, "choices": [ended]}))
    if usage:
        yield Event(sse({**chunk, "choices": [], "usage": _usage(made)}))
    yield Event(_DONE)


def _deltas(made: Reply) -> Iterator[tuple[dict[str, Any], int]]:
    """What each chunk adds, with the tokens it carries."""
    yield {"role": "assistant", "content": None if made.calls else "", "refusal": None}, 0
    for piece in made.pieces:
        yield {"content": piece}, 1
    for index, call in enumerate(made.calls):
        yield {"tool_calls": [{"index": index, **_call(call, "")}]}, 1
        for piece in pieces(call.text):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, 1


def _embeddings(request: Request, document: Mapping[str, Any]) -> Answer:
    model = _model(request, document)
    texts = _inputs(document.get("input"))
    size = size_of(model, positive(document, "dimensions", "output_dimension"))
    packed = "base64" in (document.get("encoding_format"), document.get("embedding_type"))
    vectors = [vector(model, text, size) for text in texts]
    data = [
        {"object": "embedding", "index": index, "embedding": as_base64(each) if packed else each}
        for index, each in enumerate(vectors)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": model}
    tokens = max(1, sum(map(words, texts)))
    if request.with_usage:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer(EMBEDDINGS, encoded(body), model=model, input_tokens=tokens)


def _inputs(given: Any) -> list[str]:
    """The texts to embed; a list of token numbers becomes a text with a word for each."""
    several = given if isinstance(given, list) else [given]
    if several and all(map(_is_token, several)):
        several = [several]
    if not several:
        raise Refused(400, "'input' must not be empty.", param="input")
    return [_input(each) for each in several]


def _input(given: Any) -> str:
    if isinstance(given, str) and given:
        return given
    if isinstance(given, list) and given and all(map(_is_token, given)):
        return " ".join(map(str, given))
    raise Refused(400, "'input' must be texts or tokens, and not empty.", param="input")


def _is_token(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)
