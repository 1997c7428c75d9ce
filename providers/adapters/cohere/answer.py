"""What a v2 chat answer or one event of its stream says, in OpenAI's terms.

The plan that comes with tool calls is a chain of thought by Cohere's own words, so it becomes
`reasoning_content`, as thinking does. Citations keep Cohere's shape under `citations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from providers.call import Usage

_FINISHES = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}


def message_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The assistant's message of a whole answer.

    Raises what MISREAD names on what is not of the dialect.
    """
    theirs = document["message"]
    blocks = theirs.get("content") or []
    calls = [_call(call) for call in theirs.get("tool_calls") or []]
    text = "".join(block.get("text", "") for block in blocks)
    reasoning = "".join(block.get("thinking", "") for block in blocks)
    reasoning += theirs.get("tool_plan") or ""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message |= {"content": text or None, "tool_calls": calls}
    if reasoning:
        message["reasoning_content"] = reasoning
    if citations := theirs.get("citations"):
        message["citations"] = citations
    return message


def delta_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What one event adds to the message; empty for the events that only frame others.

    Raises what MISREAD names on what is not of the dialect.
    """
    message = event["delta"]["message"]
    kind = event["type"]
    if kind in ("content-start", "content-delta"):
        return _content(message["content"])
    if kind == "tool-plan-delta":
        return {"reasoning_content": message["tool_plan"]}
    if kind == "tool-call-start":
        return {"tool_calls": [{"index": event["index"], **_call(message["tool_calls"])}]}
    if kind == "tool-call-delta":
        arguments = message["tool_calls"]["function"]["arguments"]
        return {"tool_calls": [{"index": event["index"], "function": {"arguments": arguments}}]}
    return {"citations": [message["citations"]]}  # citation-start


def finish_of(reason: Any) -> str:
    """OpenAI's finish reason. One we do not know is no ordinary end, and says so."""
    return _FINISHES.get(reason, "content_filter")


def usage_of(told: Any) -> Usage | None:
    """`tokens` counts everything the model read; `billed_units`, which leaves out Cohere's own
    preamble, stands in where `tokens` is missing. None when neither came."""
    told = told or {}
    tokens = told.get("tokens") or told.get("billed_units")
    if not tokens:
        return None
    return Usage(
        input_tokens=int(tokens.get("input_tokens") or 0),
        output_tokens=int(tokens.get("output_tokens") or 0),
        cached_tokens=int(told.get("cached_tokens") or 0),
    )


def logprobs_of(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cohere tells the text of a run of tokens, not of each: the first token of a run carries
    it, the others carry none."""
    tokens = []
    for item in items:
        text = item.get("text") or ""
        for logprob in item["logprobs"]:
            seen = {"token": text, "logprob": logprob, "bytes": list(text.encode())}
            tokens.append(seen | {"top_logprobs": []})
            text = ""
    return tokens


def _content(block: Mapping[str, Any]) -> dict[str, Any]:
    if thinking := block.get("thinking"):
        return {"reasoning_content": thinking}
    return {"content": block["text"]} if block.get("text") else {}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": function["name"], "arguments": function.get("arguments") or ""},
    }
