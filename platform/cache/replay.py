"""A kept chat answer in the form that this client asked for: a stream answers a call that wants
it whole, and the other way round.

A stream that was kept is replayed event for event. Only its usage chunk comes and goes with
what the client asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers import openai_wire as wire
from providers.call import Usage
from providers.sse import DONE, Decoder, encode

_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_OF_A_CHUNK = frozenset({"obfuscation", "p"})  # padding that hides how long a text is
_SET = frozenset({"index", "type", "id", "role"})  # said once, or again as it was


def whole(events: Sequence[bytes], usage: Usage) -> bytes:
    """The chat.completion that a complete stream told, as OpenAI's SDKs put it together."""
    document: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in _chunks(events):
        document |= {
            name: value
            for name, value in chunk.items()
            if value is not None and name not in _OF_A_CHUNK
        }
        for choice in chunk.get("choices") or ():
            _tell(choices.setdefault(choice.get("index", 0), {"message": {}}), choice)
    document["object"] = "chat.completion"
    document["choices"] = [_choice(index, told) for index, told in sorted(choices.items())]
    document.setdefault("usage", wire.usage_object(usage))
    return orjson.dumps(document)


def stream(body: bytes, *, usage_wanted: bool) -> list[bytes]:
    """A whole chat.completion as a stream, up to its end."""
    document = orjson.loads(body)
    events = wire.as_chunks(document)
    if usage_wanted and (told := document.get("usage")):
        events.append(_usage_chunk(document, told))
    return [*events, DONE]


def replayed(events: Sequence[bytes], usage: Usage, *, usage_wanted: bool) -> list[bytes]:
    """A kept stream, with the usage chunk if this client wants one."""
    kept, told = [], []
    for event in events:
        if _NO_CHOICES.search(event) and b'"usage"' in event and _is_usage(event):
            told = [event]
        elif event.strip() != DONE.strip():
            kept.append(event)
    if not usage_wanted:
        return [*kept, DONE]
    if not told:
        first = next(iter(_chunks(events)), {})
        told = [_usage_chunk(first, wire.usage_object(usage))]
    return [*kept, *told, DONE]


def _tell(told: dict[str, Any], choice: Mapping[str, Any]) -> None:
    """Add a chunk's part of one choice."""
    merge(told["message"], choice.get("delta") or {})
    for name, value in choice.items():
        if name in ("delta", "index") or value is None:
            continue
        if name == "logprobs":
            merge(told.setdefault("logprobs", {}), value)
        else:
            told[name] = value


def _choice(index: int, told: Mapping[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "refusal": None, **told["message"]}
    calls = message.get("tool_calls")
    if calls:
        message["tool_calls"] = [_without_index(call) for call in calls]
    return {"index": index, "logprobs": None, "finish_reason": None, **told, "message": message}


def _without_index(call: Mapping[str, Any]) -> dict[str, Any]:
    told = {"type": "function", **call}
    return {name: value for name, value in told.items() if name != "index"}


def merge(told: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Texts and lists grow, objects grow by member, and an entry of a list that has an index is
    added to the entry of that index."""
    for name, value in delta.items():
        known = told.get(name)
        if isinstance(value, list):
            told[name] = _merged_lists(known or [], value)
        elif isinstance(value, dict):
            told[name] = known if isinstance(known, dict) else {}
            merge(told[name], value)
        elif isinstance(known, str) and isinstance(value, str) and name not in _SET:
            told[name] = known + value
        elif known is None or value not in (None, ""):
            told[name] = value


def _merged_lists(known: list[Any], added: list[Any]) -> list[Any]:
    by_index = {each["index"]: each for each in known if isinstance(each, dict) and "index" in each}
    for each in added:
        index = each.get("index") if isinstance(each, dict) else None
        if index is None:
            known.append(each)
            continue
        if index not in by_index:
            by_index[index] = {}
            known.append(by_index[index])
        merge(by_index[index], each)
    return known


def _chunks(events: Sequence[bytes]) -> list[dict[str, Any]]:
    told = Decoder().feed(b"".join(events))
    return [orjson.loads(event.data) for event in told if event.data.startswith(b"{")]


def _is_usage(event: bytes) -> bool:
    return any(not chunk.get("choices") and chunk.get("usage") for chunk in _chunks([event]))


def _usage_chunk(head: Mapping[str, Any], usage: Mapping[str, Any]) -> bytes:
    named = {name: head[name] for name in ("id", "created", "model") if name in head}
    return encode({"object": "chat.completion.chunk", **named, "choices": [], "usage": usage})
