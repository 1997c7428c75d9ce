"""Anthropic's request as a chat completion's.

What OpenAI's shape has a word for takes that word. What only Anthropic's models understand
(thinking and its signatures, marks of what to cache, failed tools) goes along under its own
name (providers/annotations.py). All else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.annotations import MARK
from providers.surfaces.messages.blocks import (
    call_of,
    check,
    content_of,
    marked,
    part_of,
    result_of,
    simplest,
)
from providers.surfaces.surface import refuse_others

_SAME = ("temperature", "top_p", "top_k", "thinking", "service_tier", MARK)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_TOOL = frozenset({"type", "name", "description", "input_schema", "strict", MARK})
_USERS = ("text", "image", "document", "tool_result")
_ANSWERS = ("text", "tool_use", "thinking", "redacted_thinking")


def chat_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion that is asked for. `document` is of the form's schema. Raises
    Unsupported."""
    params: dict[str, Any] = {"model": document["model"], "messages": _messages(document)}
    params |= {name: document[name] for name in _SAME if document.get(name) is not None}
    if limit := document.get("max_tokens"):
        params["max_tokens"] = limit
    if stop := document.get("stop_sequences"):
        params["stop"] = stop
    if user := (document.get("metadata") or {}).get("user_id"):
        params["user"] = user
    if document.get("stream"):
        params |= {"stream": True, "stream_options": {"include_usage": True}}
    return params | _output(document.get("output_config") or {}) | _tools(document)


def _output(config: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if effort := config.get("effort"):
        made["output_config"] = {"effort": effort}
    if wanted := config.get("format"):
        schema = {"name": "output", "strict": True, "schema": wanted["schema"]}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    return made


def _tools(document: Mapping[str, Any]) -> dict[str, Any]:
    tools, choice = document.get("tools"), document.get("tool_choice")
    if not tools:
        if choice and choice["type"] in ("any", "tool"):
            raise Unsupported("tool_choice", "There is no tool to choose: send `tools` too.")
        return {}
    made: dict[str, Any] = {"tools": [_tool(tool, f"tools.{n}") for n, tool in enumerate(tools)]}
    if not choice:
        return made
    if choice["type"] == "tool":
        made["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    else:
        made["tool_choice"] = _CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        made["parallel_tool_calls"] = False
    return made


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    if tool.get("type") not in (None, "custom"):
        raise Unsupported(
            f"{place}.type",
            "Tools that are Anthropic's own are not passed on. Describe one of yours.",
        )
    refuse_others(tool, _TOOL, place)
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    for name in ("description", "strict"):
        if tool.get(name):
            function[name] = tool[name]
    return marked({"type": "function", "function": function}, tool)


def _messages(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if system := content_of(document.get("system"), ("text",), "system"):
        messages.append({"role": "system", "content": system})
    for index, message in enumerate(document["messages"]):
        content, place = message["content"], f"messages.{index}.content"
        if isinstance(content, str):
            messages.append({"role": message["role"], "content": content})
        elif message["role"] == "user":
            messages += _from_user(content, place)
        else:
            messages.append(_answer(content, place))
    return messages


def _from_user(blocks: list[Mapping[str, Any]], place: str) -> list[dict[str, Any]]:
    """Results of tools are messages of their own and stand before the rest, as at Anthropic."""
    results, parts = [], []
    for index, block in enumerate(blocks):
        where = f"{place}.{index}"
        if check(block, _USERS, where) == "tool_result":
            results.append(result_of(block, where))
        else:
            parts.append(part_of(block, where))
    said = simplest(parts)
    return [*results, {"role": "user", "content": said}] if parts or not results else results


def _answer(blocks: list[Mapping[str, Any]], place: str) -> dict[str, Any]:
    """Thoughts without a signature came from a model that signs none: they are told as OpenAI's
    clients tell them."""
    parts, calls, thoughts, unsigned = [], [], [], ""
    for index, block in enumerate(blocks):
        kind = check(block, _ANSWERS, f"{place}.{index}")
        if kind == "text":
            parts.append(part_of(block, f"{place}.{index}"))
        elif kind == "tool_use":
            calls.append(call_of(block))
        elif kind == "thinking" and not block.get("signature"):
            unsigned += block["thinking"]
        else:
            thoughts.append(dict(block))
    said = simplest(parts)
    made: dict[str, Any] = {"role": "assistant", "content": said or (None if calls else "")}
    if calls:
        made["tool_calls"] = calls
    if unsigned:
        made["reasoning_content"] = unsigned
    if thoughts:
        made["extra_content"] = {"anthropic": {"thinking_blocks": thoughts}}
    return made
