"""OpenAI's messages as Anthropic's: system apart, tool results as a user's blocks, roles that
take turns.

Anthropic wants turns that are not empty, results of calls at the head of the turn that
follows the calls, and calls at the end of theirs: what OpenAI takes is put into that order.
System and developer messages all become the system prompt, which stands before every turn.
`reasoning_content` is not sent back, being no input; the signed thoughts that Anthropic wants
to see again in a tool loop come back in `extra_content`, where we put them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from providers.adapters.anthropic.answer import THOUGHTS
from providers.adapters.anthropic.parts import blocks_of, texts_of
from providers.turns import Blocks, arguments_of, in_turns

_FIELDS = {
    "system": {"content"},
    "developer": {"content"},
    "user": {"content"},
    "assistant": {"content", "tool_calls", "refusal"},
    # The call's id tells the name.
    "tool": {"content", "tool_call_id", "name", "is_error", "cache_control"},
}
_ORDER = {"tool_result": 0, "thinking": 0, "redacted_thinking": 0, "tool_use": 2}
_OF_RESULTS = ("is_error", "cache_control")
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


def conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[Blocks, list[dict[str, Any]]]:
    """The system prompt's blocks, and the turns. Neighbours of one role become one turn.

    Raises Unsupported for a role, field or content part that Anthropic does not have.
    """
    system, turns = in_turns(
        messages, _FIELDS, provider="Anthropic", texts=texts_of, blocks=_blocks
    )
    for turn in turns:
        turn["content"].sort(key=lambda block: _ORDER.get(block["type"], 1))
    last = turns[-1]["content"][-1]
    if turns[-1]["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()  # the beginning of an answer: all else is refused
    return system, turns


def _blocks(message: Mapping[str, Any], role: str, place: str) -> Blocks:
    if role == "tool":
        return [_result(message, place)]
    said = message.get("content") or message.get("refusal")
    blocks = _thoughts(message) + blocks_of(said, f"{place}.content")
    for index, call in enumerate(message.get("tool_calls") or ()):
        blocks.append(_use(call, f"{place}.tool_calls.{index}"))
    return blocks


def _thoughts(message: Mapping[str, Any]) -> Blocks:
    """The thinking blocks that an assistant's message brings back."""
    ours = (message.get("extra_content") or {}).get("anthropic") or {}
    blocks: Blocks = list(ours.get("thinking_blocks") or ())
    if any(block["type"] not in THOUGHTS for block in blocks):
        raise ValueError("something else among the thoughts")
    return blocks


def _result(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, str):
        content = blocks_of(content, f"{place}.content")
    call_id = _id(message["tool_call_id"])
    result = {"type": "tool_result", "tool_use_id": call_id, "content": content}
    return result | {name: message[name] for name in _OF_RESULTS if message.get(name)}


def _use(call: Mapping[str, Any], place: str) -> dict[str, Any]:
    arguments = arguments_of(call, place, provider="Anthropic")
    call_id = _id(call["id"])
    use = {"type": "tool_use", "id": call_id, "name": call["function"]["name"], "input": arguments}
    mark = call.get("cache_control")
    return use | {"cache_control": mark} if mark else use


def _id(call_id: str) -> str:
    """Anthropic's ids know fewer characters than those of the providers whose conversations
    it may be asked to go on with."""
    return _NOT_IN_IDS.sub("_", call_id)
