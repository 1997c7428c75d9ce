"""Cohere's dialect: v2 chat (JSON and SSE), v2 embed and v2 rerank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from providers.amounts import DOCUMENTS_PER_SEARCH, RERANK
from providers.sandbox.dialects import media, openai_messages
from providers.sandbox.dialects.dialect import (
    CHAT,
    EMBEDDINGS,
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
from providers.sandbox.vectors import size_of, vector

_PATHS = {"/v2/chat": CHAT, "/v2/embed": EMBEDDINGS, "/v2/rerank": RERANK}
_FINISHES = {
    Finish.STOP: "COMPLETE",
    Finish.STOP_SEQUENCE: "STOP_SEQUENCE",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.TOOL_CALLS: "TOOL_CALL",
}
_ERRORS = {
    400: "invalid request",
    401: "invalid api token",
    402: "Please add or update your payment method.",
    403: "You do not have access to this resource.",
    404: "model not found",
    429: "You are past the rate limit of your key. Please wait and try again later.",
    503: "The service is unavailable.",
}
_ERROR_ID = "00000000-0000-4000-8000-000000000000"


class Cohere:
    name = "cohere"

    def operation(self, request: Request) -> str | None:
        if request.method != "POST":
            return None
        return next((op for path, op in _PATHS.items() if request.path.endswith(path)), None)

    def answer(self, request: Request, operation: str) -> Answer:
        if not request.bearer:
            raise Refused(401, "no api key supplied")
        if is_bad(request.bearer):
            raise Refused(401)
        if operation == RERANK:
            return _rerank(request)
        return _chat(request) if operation == CHAT else _embed(request)

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        message = refused.message or _ERRORS.get(refused.status, "internal server error")
        body = {"id": _ERROR_ID, "message": message}
        headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        return Answer(operation, encoded(body), refused.status, headers=headers)

    def broken_off(self) -> bytes:
        delta = {"finish_reason": "ERROR", "error": "internal server error"}
        return _named({"type": "message-end", "delta": delta})


def _named(document: Mapping[str, Any]) -> bytes:
    return sse(document, name=str(document["type"]))


def _chat(request: Request) -> Answer:
    document = request.document()
    prompt = _prompt(document)
    made = reply(prompt)
    streamed = document.get("stream") is True
    return Answer(
        CHAT,
        encoded(_whole(made, usage=request.with_usage)),
        model=prompt.model,
        input_tokens=made.input_tokens,
        output_tokens=made.output_tokens,
        events=tuple(_events(made, usage=request.with_usage)) if streamed else None,
    )


def _prompt(document: Mapping[str, Any]) -> Prompt:
    choice, tools = openai_messages.chosen(
        document.get("tool_choice"), openai_messages.tools(document)
    )
    wanted = mapping(document.get("response_format"))
    is_json = wanted.get("type") == "json_object"
    return Prompt(
        model=required(document, "model", str),
        turns=openai_messages.turns(document),
        tools=tools,
        choice=choice,
        schema=mapping(wanted.get("json_schema") or wanted.get("schema")) if is_json else None,
        max_tokens=positive(document, "max_tokens"),
        stop=strings(document.get("stop_sequences")),
    )


def _usage(made: Reply) -> dict[str, Any]:
    tokens = {"input_tokens": made.input_tokens, "output_tokens": made.output_tokens}
    return {"usage": {"billed_units": tokens, "tokens": tokens}}


def _call(call: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"{call.name}_{call.id}", "type": "function", "function": function}


def _whole(made: Reply, *, usage: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    if made.calls:
        message["tool_calls"] = [_call(call, call.text) for call in made.calls]
    else:
        message["content"] = [{"type": "text", "text": made.text}]
    told = _usage(made) if usage else {}
    return {"id": made.id, "message": message, "finish_reason": _FINISHES[made.finish], **told}


def _events(made: Reply, *, usage: bool) -> Iterator[Event]:
    message = {"role": "assistant", "content": [], "tool_calls": [], "citations": []}
    yield Event(_named({"id": made.id, "type": "message-start", "delta": {"message": message}}))
    if made.pieces:
        yield _event("content-start", 0, {"content": {"type": "text", "text": ""}})
        for piece in made.pieces:
            yield _event("content-delta", 0, {"content": {"text": piece}}, tokens=1)
        yield Event(_named({"type": "content-end", "index": 0}))
    for index, call in enumerate(made.calls):
        yield _event("tool-call-start", index, {"tool_calls": _call(call, "")}, tokens=1)
        for piece in pieces(call.text):
            part = {"tool_calls": {"function": {"arguments": piece}}}
            yield _event("tool-call-delta", index, part, tokens=1)
        yield Event(_named({"type": "tool-call-end", "index": index}))
    told = _usage(made) if usage else {}
    ended = {"type": "message-end", "delta": {"finish_reason": _FINISHES[made.finish], **told}}
    yield Event(_named(ended))
    yield Event(b"data: [DONE]\n\n")


def _event(kind: str, index: int, message: Mapping[str, Any], *, tokens: int = 0) -> Event:
    body = {"type": kind, "index": index, "delta": {"message": message}}
    return Event(_named(body), tokens)


def _embed(request: Request) -> Answer:
    document = request.document()
    model = required(document, "model", str)
    required(document, "input_type", str)
    texts = strings(required(document, "texts", list))
    size = size_of(model, positive(document, "output_dimension"))
    tokens = max(1, sum(map(words, texts)))
    body: dict[str, Any] = {
        "id": _ERROR_ID,
        "texts": texts,
        "embeddings": {"float": [vector(model, text, size) for text in texts]},
        "response_type": "embeddings_by_type",
    }
    if request.with_usage:
        body["meta"] = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
    return Answer(EMBEDDINGS, encoded(body), model=model, input_tokens=tokens)


def _rerank(request: Request) -> Answer:
    document = request.document()
    model = required(document, "model", str)
    body: dict[str, Any] = {"id": _ERROR_ID, "results": media.ranked(document)}
    if request.with_usage:
        searches = -(-len(document["documents"]) // DOCUMENTS_PER_SEARCH)
        body["meta"] = {"billed_units": {"search_units": searches}}
    return Answer(RERANK, encoded(body), model=model)
