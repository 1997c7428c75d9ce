"""Bedrock's dialect: Converse (JSON and binary event stream) and InvokeModel of embeddings.

Signatures are checked: for any access key id, the secret is the same text. An API key, which is
sent as it is, is taken too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from providers.adapters.bedrock.eventstream import CONTENT_TYPE
from providers.adapters.bedrock.eventstream import encoded as frame
from providers.adapters.bedrock.signing import ALGORITHM, Scope, Signable, signature
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
    objects,
    positive,
    required,
    strings,
)
from providers.sandbox.generate import pieces, reply
from providers.sandbox.prompt import Choice, Finish, Prompt, Reply, Speaker, Tool, Turn, words
from providers.sandbox.vectors import size_of, vector

_PATH = re.compile(r"/model/([^/]+)/(converse|converse-stream|invoke)")
_AUTHORIZATION = re.compile(
    ALGORITHM + r" Credential=([^/,]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
_STOPS = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
}
# status → exception, message
_ERRORS = {
    400: ("ValidationException", "The request is not valid."),
    401: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    403: ("AccessDeniedException", "You are not authorized to perform this operation."),
    404: ("ResourceNotFoundException", "Could not resolve the foundation model."),
    408: ("ModelTimeoutException", "The model took too long."),
    424: ("ModelErrorException", "The model failed."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
}
_SERVER_ERROR = ("InternalServerException", "The system encountered an unexpected error.")
_NO_CLIENT = "UnrecognizedClientException"


class Bedrock:
    name = "bedrock"

    def operation(self, request: Request) -> str | None:
        found = _PATH.fullmatch(request.path) if request.method == "POST" else None
        if found is None:
            return None
        return EMBEDDINGS if found[2] == "invoke" else CHAT

    def answer(self, request: Request, operation: str) -> Answer:
        _authorize(request)
        found = _PATH.fullmatch(request.path)
        model = unquote(found[1]) if found else ""
        if operation == EMBEDDINGS:
            return _embed(request, model)
        return _chat(request, model, streamed=request.path.endswith("-stream"))

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        kind, message = _ERRORS.get(refused.status, _SERVER_ERROR)
        headers = {"x-amzn-errortype": f"{refused.code or kind}:http://internal.amazon.com/"}
        if refused.retry_after is not None:
            headers["retry-after"] = str(refused.retry_after)
        body = {"message": refused.message or message}
        return Answer(operation, encoded(body), refused.status, headers=headers)

    def broken_off(self) -> bytes:
        headers = {
            ":exception-type": "modelStreamErrorException",
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return frame(headers, encoded({"message": "The model failed in the middle."}))


def _authorize(request: Request) -> None:
    """Raises Refused."""
    if request.bearer:
        if is_bad(request.bearer):
            raise Refused(403, "Invalid API Key format", code="AccessDeniedException")
        return
    told = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if told is None:
        raise Refused(
            403, "Missing Authentication Token", code="MissingAuthenticationTokenException"
        )
    if is_bad(told[1]):
        raise Refused(403, _ERRORS[401][1], code=_NO_CLIENT)
    headers = {name: request.headers.get(name, "") for name in told[5].split(";")}
    # What the client was told as our path begins with the provider's slug.
    path = f"/{request.provider}{request.path}"
    signed = Signable(request.method, path, request.query, headers, request.body)
    scope = Scope(request.headers.get("x-amz-date", ""), told[3], told[4])
    if signature(signed, scope, told[1]) != told[6]:
        raise Refused(403, "The signature we calculated differs.", code="InvalidSignatureException")


def _chat(request: Request, model: str, *, streamed: bool) -> Answer:
    prompt = _prompt(request.document(), model)
    made = reply(prompt)
    events = tuple(_events(made, usage=request.with_usage)) if streamed else None
    return Answer(
        CHAT,
        encoded(_whole(made, usage=request.with_usage)),
        model=model,
        input_tokens=made.input_tokens,
        output_tokens=made.output_tokens,
        events=events,
        stream_type=CONTENT_TYPE,
    )


def _prompt(document: Mapping[str, Any], model: str) -> Prompt:
    config, inference = (
        mapping(document.get("toolConfig")),
        mapping(document.get("inferenceConfig")),
    )
    choice = mapping(config.get("toolChoice"))
    specs = [mapping(tool.get("toolSpec")) for tool in objects(config.get("tools"))]
    named = mapping(choice.get("tool")).get("name")
    tools = tuple(
        Tool(str(spec.get("name", "")), mapping(mapping(spec.get("inputSchema")).get("json")))
        for spec in specs
        if named in (None, spec.get("name"))
    )
    system = [Turn(Speaker.SYSTEM, str(b.get("text", ""))) for b in objects(document.get("system"))]
    return Prompt(
        model=model,
        turns=(*system, *_turns(required(document, "messages", list))),
        tools=tools,
        choice=Choice.REQUIRED if "any" in choice or named else Choice.AUTO,
        schema=_schema(document),
        max_tokens=positive(inference, "maxTokens"),
        stop=strings(inference.get("stopSequences")),
    )


def _schema(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = mapping(mapping(document.get("outputConfig")).get("textFormat"))
    spec = mapping(mapping(form.get("structure")).get("jsonSchema"))
    try:
        return mapping(orjson.loads(spec["schema"])) if spec else None
    except (KeyError, orjson.JSONDecodeError):
        raise Refused(400, "The schema is no JSON.") from None


def _turns(messages: list[Any]) -> Iterator[Turn]:
    for message in map(mapping, messages):
        if message.get("role") not in ("user", "assistant"):
            raise Refused(400, "A message's role must be user or assistant.")
        yield from _blocks(Speaker(message["role"]), objects(message.get("content")))


def _blocks(speaker: Speaker, blocks: list[Mapping[str, Any]]) -> Iterator[Turn]:
    """Tool results travel in user messages; each is a turn of the tool's."""
    for block in blocks:
        if result := mapping(block.get("toolResult")):
            content = objects(result.get("content"))
            yield Turn(Speaker.TOOL, values=("".join(str(c.get("text", "")) for c in content),))
    texts = [str(block["text"]) for block in blocks if "text" in block]
    images = sum("image" in block for block in blocks)
    uses = [mapping(block.get("toolUse")) for block in blocks if "toolUse" in block]
    if texts or images or uses:
        yield Turn(speaker, "\n".join(texts), images, tuple(use.get("input") for use in uses))


def _usage(made: Reply) -> dict[str, Any]:
    told = {"inputTokens": made.input_tokens, "outputTokens": made.output_tokens}
    return {**told, "totalTokens": sum(told.values())}


def _whole(made: Reply, *, usage: bool) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"toolUse": {"toolUseId": f"tooluse_{c.id}", "name": c.name, "input": c.arguments}}
        for c in made.calls
    ]
    content = [{"text": made.text}] if made.pieces else content
    body: dict[str, Any] = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _STOPS[made.finish],
        "metrics": {"latencyMs": 1},
    }
    return body | ({"usage": _usage(made)} if usage else {})


def _events(made: Reply, *, usage: bool) -> Iterator[Event]:
    yield _event("messageStart", {"role": "assistant"})
    for piece in made.pieces:
        yield _event("contentBlockDelta", _of_block(0, delta={"text": piece}), 1)
    if made.pieces:
        yield _event("contentBlockStop", _of_block(0))
    for index, call in enumerate(made.calls):
        use = {"toolUse": {"toolUseId": f"tooluse_{call.id}", "name": call.name}}
        yield _event("contentBlockStart", _of_block(index, start=use), 1)
        for piece in pieces(call.text):
            delta = {"toolUse": {"input": piece}}
            yield _event("contentBlockDelta", _of_block(index, delta=delta), 1)
        yield _event("contentBlockStop", _of_block(index))
    yield _event("messageStop", {"stopReason": _STOPS[made.finish]})
    told = {"usage": _usage(made)} if usage else {}
    yield _event("metadata", {**told, "metrics": {"latencyMs": 1}})


def _of_block(index: int, **said: Any) -> dict[str, Any]:
    return {"contentBlockIndex": index, **said}


def _event(kind: str, document: Mapping[str, Any], tokens: int = 0) -> Event:
    headers = {
        ":event-type": kind,
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return Event(frame(headers, encoded(document)), tokens)


def _embed(request: Request, model: str) -> Answer:
    document = request.document()
    is_titan = "titan" in model
    texts = (required(document, "inputText", str),) if is_titan else strings(document.get("texts"))
    size = size_of(model, positive(document, "dimensions", "output_dimension"))
    tokens = max(1, sum(map(words, texts)))
    vectors = [vector(model, text, size) for text in texts]
    body: dict[str, Any] = {"embeddings": {"float": vectors}}
    if is_titan:
        body = {"embedding": vectors[0], "inputTextTokenCount": tokens}
    return Answer(EMBEDDINGS, encoded(body), model=model, input_tokens=tokens)
