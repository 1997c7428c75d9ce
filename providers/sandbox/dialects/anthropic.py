"""Anthropic's dialect: messages (JSON and named SSE events) and models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from providers.sandbox.dialects.dialect import (
    CHAT,
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
    required,
    sse,
    strings,
)
from providers.sandbox.dialects.openai import MODEL_NAMES
from providers.sandbox.generate import pieces, reply
from providers.sandbox.prompt import Choice, Finish, Prompt, Reply, Speaker, Tool, ToolCall, Turn

_STOP_REASONS = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
}
_CHOICES = {"any": Choice.REQUIRED, "tool": Choice.REQUIRED, "none": Choice.NONE}

# status → type, message
_ERRORS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low."),
    403: ("permission_error", "Your key may not use this resource."),
    404: ("not_found_error", "model not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}
_API_ERROR = ("api_error", "Internal server error")


class Anthropic:
    name = "anthropic"

    def operation(self, request: Request) -> str | None:
        if request.method == "POST" and request.path.endswith("/v1/messages"):
            return CHAT
        # The path of OpenAI's list is the same; only the headers tell who asks.
        is_ours = "x-api-key" in request.headers or "anthropic-version" in request.headers
        return (
            MODELS if is_ours and (request.method, request.path) == ("GET", "/v1/models") else None
        )

    def answer(self, request: Request, operation: str) -> Answer:
        # Both are in use: newer versions of the official client send a bearer token.
        secret = request.headers.get("x-api-key", "") or request.bearer
        if not secret:
            raise Refused(401, "x-api-key header is required")
        if is_bad(secret):
            raise Refused(401)
        return _models() if operation == MODELS else _chat(request)

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        kind, message = _ERRORS.get(refused.status, _API_ERROR)
        error = {"type": refused.code or kind, "message": refused.message or message}
        body = {"type": "error", "error": error, "request_id": "req_sandbox"}
        headers = {"request-id": "req_sandbox"}
        if refused.retry_after is not None:
            headers["retry-after"] = str(refused.retry_after)
        return Answer(operation, encoded(body), refused.status, headers=headers)

    def broken_off(self) -> bytes:
        kind, message = _ERRORS[529]
        return _named({"type": "error", "error": {"type": kind, "message": message}})


def _named(document: Mapping[str, Any]) -> bytes:
    return sse(document, name=str(document["type"]))


def _models() -> Answer:
    data = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
        for name in MODEL_NAMES[:2]
    ]
    body = {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}
    return Answer(MODELS, encoded(body))


def _chat(request: Request) -> Answer:
    document = request.document()
    prompt = _prompt(document)
    made = reply(prompt)
    head = {"id": f"msg_{made.id}", "type": "message", "role": "assistant", "model": prompt.model}
    streamed = document.get("stream") is True
    return Answer(
        CHAT,
        encoded(_message(head, made, usage=request.with_usage)),
        headers={"request-id": f"req_{made.id}"},
        model=prompt.model,
        input_tokens=made.input_tokens,
        output_tokens=made.output_tokens,
        events=tuple(_events(head, made, usage=request.with_usage)) if streamed else None,
    )


def _prompt(document: Mapping[str, Any]) -> Prompt:
    if document.get("max_tokens") is None:
        raise Refused(400, "max_tokens: Field required")
    choice = mapping(document.get("tool_choice"))
    tools = tuple(
        Tool(str(tool.get("name", "")), mapping(tool.get("input_schema")))
        for tool in objects(document.get("tools"))
    )
    if choice.get("type") == "tool":
        tools = tuple(tool for tool in tools if tool.name == choice.get("name"))
    return Prompt(
        model=required(document, "model", str),
        turns=(*_system(document.get("system")), *_turns(required(document, "messages", list))),
        tools=tools,
        choice=_CHOICES.get(str(choice.get("type")), Choice.AUTO),
        parallel=choice.get("disable_parallel_tool_use") is not True,
        schema=_schema(document),
        max_tokens=positive(document, "max_tokens"),
        stop=strings(document.get("stop_sequences")),
    )


def _schema(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Structured output under its present name, and under the one it had as a beta."""
    config = mapping(document.get("output_config"))
    wanted = mapping(config.get("format") or document.get("output_format"))
    return mapping(wanted.get("schema")) if wanted.get("type") == "json_schema" else None


def _system(system: Any) -> Iterator[Turn]:
    if isinstance(system, str):
        yield Turn(Speaker.SYSTEM, system)
    for block in objects(system):
        yield Turn(Speaker.SYSTEM, str(block.get("text", "")))


def _turns(messages: list[Any]) -> Iterator[Turn]:
    for index, message in enumerate(messages):
        role = mapping(message).get("role")
        if role not in ("user", "assistant"):
            raise Refused(400, f'messages.{index}.role: Input should be "user" or "assistant"')
        content = message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        yield from _blocks(Speaker(role), objects(blocks))


def _blocks(speaker: Speaker, blocks: list[Mapping[str, Any]]) -> Iterator[Turn]:
    """Tool results travel in user messages; each is a turn of the tool's."""
    for block in blocks:
        if block.get("type") == "tool_result":
            content = block.get("content", "")
            texts = [str(part.get("text", "")) for part in objects(content)]
            yield Turn(
                Speaker.TOOL, values=(content if isinstance(content, str) else "".join(texts),)
            )
    texts = [str(block.get("text", "")) for block in blocks if block.get("type") == "text"]
    images = sum(block.get("type") == "image" for block in blocks)
    values = tuple(block.get("input") for block in blocks if block.get("type") == "tool_use")
    if texts or images or values:
        yield Turn(speaker, "\n".join(texts), images, values)


def _usage(made: Reply, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": made.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }


def _tool_use(call: ToolCall, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": arguments}


def _message(head: Mapping[str, Any], made: Reply, *, usage: bool) -> dict[str, Any]:
    content = [_tool_use(call, call.arguments) for call in made.calls]
    if made.pieces:
        content = [{"type": "text", "text": made.text}]
    body = {
        **head,
        "content": content,
        "stop_reason": _STOP_REASONS[made.finish],
        "stop_sequence": made.stop_sequence,
    }
    return body | {"usage": _usage(made, made.output_tokens)} if usage else body


def _events(head: Mapping[str, Any], made: Reply, *, usage: bool) -> Iterator[Event]:
    begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None}
    if usage:
        begun["usage"] = _usage(made, 0)
    yield Event(_named({"type": "message_start", "message": begun}))
    yield Event(_named({"type": "ping"}))
    if made.pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in made.pieces]
        yield from _block(0, {"type": "text", "text": ""}, deltas, opening_tokens=0)
    for index, call in enumerate(made.calls):
        parts = ({"type": "input_json_delta", "partial_json": p} for p in pieces(call.text))
        yield from _block(index, _tool_use(call, {}), list(parts), opening_tokens=1)
    delta = {"stop_reason": _STOP_REASONS[made.finish], "stop_sequence": made.stop_sequence}
    ended: dict[str, Any] = {"type": "message_delta", "delta": delta}
    if usage:
        ended["usage"] = {"output_tokens": made.output_tokens}
    yield Event(_named(ended))
    yield Event(_named({"type": "message_stop"}))


def _block(
    index: int, block: Mapping[str, Any], deltas: list[dict[str, str]], *, opening_tokens: int
) -> Iterator[Event]:
    start = {"type": "content_block_start", "index": index, "content_block": block}
    yield Event(_named(start), opening_tokens)
    for delta in deltas:
        body = {"type": "content_block_delta", "index": index, "delta": delta}
        yield Event(_named(body), 1)
    yield Event(_named({"type": "content_block_stop", "index": index}))
