"""One GenerateContentResponse (a whole answer or one event of a stream), in OpenAI's terms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from providers.call import Usage
from providers.whole import bad_payload

_FINISHES = {"STOP": "stop", "MAX_TOKENS": "length"}

# What a part may hold beside its kind.
_PART_NOTES = frozenset({"thought", "thoughtSignature", "partMetadata"})


@dataclass(slots=True)
class Reading:
    """What one response says. `finish` is OpenAI's word, None while the answer goes on."""

    text: str = ""
    reasoning: str = ""
    signature: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None


def read(document: Mapping[str, Any], *, seed: str, calls_before: int = 0) -> Reading:
    """`seed` and the number of calls before this response make the ids of tool calls that
    Gemini left without one: the same answer has the same ids however it was cut.

    Raises StreamFault for a part that OpenAI's shape has no place for, and what MISREAD names
    on what is not of the dialect.
    """
    reading = Reading()
    candidates = document.get("candidates") or []
    if candidates:
        candidate = candidates[0]
        for part in (candidate.get("content") or {}).get("parts") or []:
            _read_part(part, reading, seed=seed, number=calls_before + len(reading.calls))
        reading.logprobs = list(_logprobs(candidate.get("logprobsResult") or {}))
        if reason := candidate.get("finishReason"):
            called = bool(calls_before or reading.calls)
            reading.finish = _finish(reason, called=called)
    elif (document.get("promptFeedback") or {}).get("blockReason"):
        reading.finish = "content_filter"
    return reading


def usage_of(metadata: Mapping[str, Any]) -> Usage:
    """Thoughts are paid as output, the prompts of tools as input; `promptTokenCount` holds
    the cached tokens already."""

    def count(kind: str) -> int:
        return int(metadata.get(f"{kind}TokenCount") or 0)

    return Usage(
        input_tokens=count("prompt") + count("toolUsePrompt"),
        output_tokens=count("candidates") + count("thoughts"),
        cached_tokens=count("cachedContent"),
        reasoning_tokens=count("thoughts"),
    )


def extra_content(signature: str) -> dict[str, Any]:
    """Where Google's own OpenAI-compatible endpoint puts a thought signature."""
    return {"google": {"thought_signature": signature}}


def _finish(reason: str, *, called: bool) -> str:
    """Every reason that is neither an end nor a limit is some filter that held text back."""
    finish = _FINISHES.get(reason, "content_filter")
    return "tool_calls" if called and finish == "stop" else finish


def _read_part(part: Mapping[str, Any], reading: Reading, *, seed: str, number: int) -> None:
    signature = part.get("thoughtSignature")
    if "functionCall" in part:
        call = _call(part["functionCall"], seed, number)
        if signature:
            call["extra_content"] = extra_content(signature)
        reading.calls.append(call)
        return
    if unknown := part.keys() - _PART_NOTES - {"text"}:
        raise bad_payload(f"Gemini answered with {min(unknown)}, which has no place here.")
    if signature:
        reading.signature = signature
    if part.get("thought"):
        reading.reasoning += part.get("text", "")
    else:
        reading.text += part.get("text", "")


def _call(call: Mapping[str, Any], seed: str, number: int) -> dict[str, Any]:
    digest = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()
    return {
        "id": call.get("id") or f"call_{digest[:24]}",
        "type": "function",
        "function": {
            "name": call["name"],
            "arguments": orjson.dumps(call.get("args") or {}).decode(),
        },
    }


def _logprobs(result: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    rivals = result.get("topCandidates") or []
    for index, chosen in enumerate(result.get("chosenCandidates") or []):
        others = rivals[index].get("candidates") or [] if index < len(rivals) else []
        yield _token(chosen) | {"top_logprobs": [_token(other) for other in others]}


def _token(candidate: Mapping[str, Any]) -> dict[str, Any]:
    token = candidate.get("token", "")
    return {
        "token": token,
        "logprob": candidate.get("logProbability", 0.0),
        "bytes": list(token.encode()),
    }
