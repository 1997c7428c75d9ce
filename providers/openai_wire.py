"""OpenAI's wire shapes, built: what every other dialect is translated into.

Pure functions only. Field names and nesting are those of OpenAI's API reference for
chat.completions and embeddings; token figures follow the contract: prompt tokens count all
input, cache reads included, and completion tokens the reasoning too.
"""

from __future__ import annotations

import base64 as b64
import re
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from lib.problems import InvalidRequest
from providers import amounts
from providers.call import Call, Upstream, Usage
from providers.rejection import clean_message, parsed, problem, retry_after
from providers.sse import encode

__all__ = [
    "ABSURD",
    "BYTES_PER_TOKEN",
    "CHARACTERS_PER_TOKEN",
    "DEFAULT_MAX_OUTPUT",
    "FINISH_REASON",
    "TOKENS_PER_IMAGE",
    "TOKENS_PER_MESSAGE",
    "Head",
    "as_chunks",
    "chunk",
    "clean_message",
    "completion",
    "embeddings",
    "estimate",
    "input_estimate",
    "parsed",
    "problem",
    "read_usage",
    "retry_after",
    "usage_chunk",
    "usage_object",
]

CHARACTERS_PER_TOKEN = 4
BYTES_PER_TOKEN = 3  # the worst case reserved for: few tokens are shorter in UTF-8
TOKENS_PER_MESSAGE = 8
TOKENS_PER_IMAGE = 1600
DEFAULT_MAX_OUTPUT = 4096
# Why an answer ended. Inside a text every quotation mark is escaped, so no text can look like it.
FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"([^"]*)"')
# Tokens. No answer uses as many: a larger figure is a mistake and counts as not told.
ABSURD = 1_000_000_000


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

    def named(self, answer_id: str | None = None, model: str | None = None) -> Head:
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
    inputs = {"cached_tokens": usage.cached_tokens}
    if usage.cache_write_tokens:
        inputs["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": inputs,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def read_usage(told: Any) -> Usage | None:
    """A usage object of OpenAI's shape, vendors' variations included; None when it is none.

    DeepSeek tells cache reads as `prompt_cache_hit_tokens`. xAI's completion tokens leave out
    the reasoning, which only the total shows.
    """
    prompt, output = _count(told, "prompt_tokens"), _count(told, "completion_tokens")
    if not prompt:
        return None
    if len(told) <= 3 and "total_tokens" in told:
        return Usage(prompt, output)  # there is nothing else in it
    inputs, outputs = told.get("prompt_tokens_details"), told.get("completion_tokens_details")
    cached = _count(inputs, "cached_tokens") or _count(told, "prompt_cache_hit_tokens")
    reasoning = _count(outputs, "reasoning_tokens")
    if reasoning and _count(told, "total_tokens") == prompt + output + reasoning:
        output += reasoning
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=min(cached, prompt),
        cache_write_tokens=min(_count(inputs, "cache_write_tokens"), prompt),
        reasoning_tokens=reasoning,
    )


def _count(told: Any, name: str) -> int:
    """A figure of a usage object; 0 for what is no count."""
    if type(told) is not dict:  # quicker than asking for a Mapping, and JSON makes no other
        return 0
    figure = told.get(name)
    if figure is None or (type(figure) is not int and type(figure) is not float):
        return 0
    return int(figure) if 0 < figure < ABSURD else 0


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
    try:
        return b64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except struct.error:
        raise ValueError("a vector holds what is no number") from None


def estimate(call: Call, upstream: Upstream) -> Usage:
    """What to reserve, at worst: the input by its bytes, and all output the call may get."""
    known = amounts.OF.get(call.operation)
    if known is not None:
        return known(call)
    output = 0
    if call.operation == "chat.completions":
        asked = (call.params.get("max_completion_tokens"), call.params.get("max_tokens"))
        output = max([limit for limit in asked if limit], default=0)
        output = output or upstream.max_output or DEFAULT_MAX_OUTPUT
    return Usage(input_estimate(call), output, units=1, estimated=True)


def input_estimate(call: Call) -> int:
    """Input tokens, rather too many than too few: bytes of text over BYTES_PER_TOKEN, a fixed
    amount a message and an image. No tokenizer: each provider has its own."""
    if call.operation == "embeddings":
        return _embedded_tokens(call.params.get("input"))
    size = images = 0
    messages = call.params.get("messages") or []
    for text in _texts(messages):
        if text is None:
            images += 1
        else:
            size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    for field in ("tools", "response_format"):
        if value := call.params.get(field):
            size += len(_written(value))
    return (
        -(-size // BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_IMAGE * images
    )


def _embedded_tokens(texts: Any) -> int:
    """`input` is a text, a list of texts, a list of tokens, or a list of such lists."""
    if isinstance(texts, str):
        return -(-len(texts.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
    if isinstance(texts, list):
        return sum(_embedded_tokens(text) for text in texts)
    return 1


def _texts(messages: list[Any]) -> Iterator[str | None]:
    """Every text of the messages; None for each image. A file or a sound may be long, so it
    counts by its size, as a text would."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            for part in content:
                yield _part_text(part)
        if calls := message.get("tool_calls"):
            yield _written(calls)


def _part_text(part: Any) -> str | None:
    if isinstance(part, Mapping):
        if isinstance(part.get("text"), str):
            return str(part["text"])
        if part.get("type") == "image_url":
            return None
    return _written(part)


def _written(value: Any) -> str:
    """Raises InvalidRequest for what no provider could be sent either."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise InvalidRequest("A field is nested too deeply, or is no JSON.") from None


def as_chunks(document: Mapping[str, Any]) -> list[bytes]:
    """A whole chat.completion as a stream's events, for a client that asked for a stream and
    a provider that answered whole. Without the usage chunk and `[DONE]`."""
    head = Head(document["id"], document["model"], document["created"])
    choice = document["choices"][0]
    message = {k: v for k, v in choice["message"].items() if v is not None}
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    end = {"finish_reason": choice.get("finish_reason") or "stop"}
    if choice.get("stop_reason") is not None:
        end["stop_reason"] = choice["stop_reason"]
    return [chunk(head, message, logprobs=choice.get("logprobs")), chunk(head, {}, **end)]
