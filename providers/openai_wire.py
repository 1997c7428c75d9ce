"""OpenAI's wire shapes, built: what every other dialect is translated into.

Pure functions only. Field names and nesting are those of OpenAI's API reference for
chat.completions and embeddings; token figures follow the contract: prompt tokens count all
input, cache reads included, and completion tokens the reasoning too.
"""

from __future__ import annotations

import base64 as b64
import datetime as dt
import email.utils
import re
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from lib.problems import Problem, Unavailable, UpstreamRejected, UpstreamTimeout
from providers.call import Call, Outcome, Upstream, Usage, Verdict
from providers.sse import encode

CHARACTERS_PER_TOKEN = 4
BYTES_PER_TOKEN = 3  # the worst case reserved for: few tokens are shorter in UTF-8
TOKENS_PER_MESSAGE = 8
TOKENS_PER_IMAGE = 1600
DEFAULT_MAX_OUTPUT = 4096
MAX_MESSAGE = 500

# Keys, tokens and the like, as providers echo them in "Incorrect API key provided: sk-…".
_SECRETS = re.compile(
    r"\b(?:sk|pk|pb|gsk|hf|xai|pplx|csk|AIza)[-_]?[\w*.-]{8,}|[Bb]earer\s+\S+|\beyJ[\w.-]{10,}"
)


@dataclass(frozen=True, slots=True)
class Head:
    """What all chunks of one answer repeat."""

    id: str
    model: str
    created: int

    @classmethod
    def of(cls, call: Call, upstream: Upstream) -> Head:
        """For a dialect that names no id of its own: the call's, made recognisable."""
        return cls(f"chatcmpl-{call.request_id}", upstream.model, int(time.time()))

    def named(self, answer_id: str | None, model: str | None) -> Head:
        """With the provider's own id, made recognisable, and model, where it tells them."""
        return replace(
            self,
            id=f"chatcmpl-{answer_id}" if answer_id else self.id,
            model=model or self.model,
        )


def completion(head: Head, choice: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """A chat.completion with one choice (`message`, `finish_reason`, perhaps `logprobs`)."""
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {
                "index": 0,
                "logprobs": None,
                **choice,
                "message": {"refusal": None, **choice["message"]},
            }
        ],
        "usage": usage_object(usage),
    }


def chunk(
    head: Head, delta: Mapping[str, Any], *, finish_reason: str | None = None, **choice: Any
) -> bytes:
    """One chat.completion.chunk event."""
    return encode(
        {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **choice}],
        }
    )


def usage_chunk(head: Head, usage: Usage) -> bytes:
    """The closing event of `stream_options.include_usage`: no choices, only the count."""
    return encode(
        {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "choices": [],
            "usage": usage_object(usage),
        }
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def read_usage(told: Any) -> Usage | None:
    """A usage object of OpenAI's shape, vendors' variations included; None when it is none.

    DeepSeek tells cache reads as `prompt_cache_hit_tokens`.
    """
    if not isinstance(told, Mapping):
        return None
    prompt, completed = told.get("prompt_tokens"), told.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completed or 0, int):
        return None
    inputs, outputs = (
        details if isinstance(details := told.get(name), Mapping) else {}
        for name in ("prompt_tokens_details", "completion_tokens_details")
    )
    cached = inputs.get("cached_tokens") or told.get("prompt_cache_hit_tokens") or 0
    return Usage(
        input_tokens=prompt,
        output_tokens=completed or 0,
        cached_tokens=min(int(cached), prompt),
        reasoning_tokens=int(outputs.get("reasoning_tokens") or 0),
    )


def embeddings(
    vectors: list[list[float]], *, model: str, usage: Usage, base64: bool = False
) -> dict[str, Any]:
    """An embeddings list; with `base64`, vectors as little-endian float32 (the form that
    OpenAI's SDKs ask for unless told otherwise)."""
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if base64 else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens},
    }


def _packed(vector: list[float]) -> str:
    return b64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def estimate(call: Call, upstream: Upstream) -> Usage:
    """What to reserve, at worst: the input by its bytes, and all output the call may get."""
    output = 0
    if call.operation == "chat.completions":
        asked = call.params.get("max_completion_tokens") or call.params.get("max_tokens")
        output = int(asked or upstream.max_output or DEFAULT_MAX_OUTPUT)
    return Usage(input_estimate(call), output, units=1, estimated=True)


def input_estimate(call: Call) -> int:
    """Input tokens, rather too many than too few: bytes of text over BYTES_PER_TOKEN, a fixed
    amount a message and an image. No tokenizer: each provider has its own."""
    if call.operation == "embeddings":
        texts = call.params.get("input")
        return -(-len(orjson.dumps(texts)) // BYTES_PER_TOKEN)
    size = images = 0
    messages = call.params.get("messages") or []
    for text in _texts(messages):
        if text is None:
            images += 1
        else:
            size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    if tools := call.params.get("tools"):
        size += len(orjson.dumps(tools))
    return (
        -(-size // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_IMAGE * images
    )


def _texts(messages: list[Any]) -> Iterator[str | None]:
    """Every text of the messages; None for each part that is no text."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            for part in content:
                text = part.get("text") if isinstance(part, Mapping) else None
                yield text if isinstance(text, str) else None
        if calls := message.get("tool_calls"):
            yield orjson.dumps(calls).decode()


def parsed(body: bytes) -> Any:
    """The body's JSON, or None where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def clean_message(message: Any) -> str:
    """A provider's words, fit to be passed on: text, bounded, with secrets taken out."""
    if not isinstance(message, str):
        return ""
    return _SECRETS.sub("[redacted]", message)[:MAX_MESSAGE]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After (RFC 9110 §10.2.3: seconds or a date) or
    `retry-after-ms`; None where they say nothing usable."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None or (seconds := _number(text)) is not None:
        return None if text is None else seconds
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment - dt.datetime.now(dt.UTC)).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def problem(outcome: Outcome) -> Problem:
    """An attempt's outcome as the caller should see it, were it the last one."""
    if outcome.verdict is Verdict.INVALID_REQUEST:
        status = outcome.status if 400 <= outcome.status < 500 else 400
        words = outcome.message or "The provider refused the request."
        return UpstreamRejected(words, status=status, param=outcome.param)
    if outcome.verdict is Verdict.TIMEOUT:
        return UpstreamTimeout()
    if outcome.verdict in (Verdict.BLOCKED, Verdict.BAD_PAYLOAD):
        return UpstreamRejected(outcome.message or "The provider's answer could not be used.")
    wait = None if outcome.retry_after is None else max(1, round(outcome.retry_after + 0.5))
    return Unavailable(retry_after=wait)


def as_chunks(document: Mapping[str, Any]) -> list[bytes]:
    """A whole chat.completion as a stream's events, for a client that asked for a stream and
    a provider that answered whole. Without the usage chunk and `[DONE]`."""
    head = Head(document["id"], document["model"], document["created"])
    choice = document["choices"][0]
    message = {k: v for k, v in choice["message"].items() if v is not None}
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return [
        chunk(head, message, logprobs=choice.get("logprobs")),
        chunk(head, {}, finish_reason=choice.get("finish_reason") or "stop"),
    ]
