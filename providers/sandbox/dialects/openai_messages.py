"""Chat requests in OpenAI's shape, which Cohere's v2 shares but for a few names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from providers.sandbox.dialects.dialect import Refused, mapping, objects, required
from providers.sandbox.prompt import Choice, Speaker, Tool, Turn

_SPEAKERS = {
    "system": Speaker.SYSTEM,
    "developer": Speaker.SYSTEM,
    "user": Speaker.USER,
    "assistant": Speaker.ASSISTANT,
    "tool": Speaker.TOOL,
}

_CHOICES = {choice.value: choice for choice in Choice}


def turns(document: Mapping[str, Any]) -> tuple[Turn, ...]:
    """Raises Refused."""
    messages = required(document, "messages", list)
    return tuple(_turn(message, index) for index, message in enumerate(messages))


def tools(document: Mapping[str, Any]) -> tuple[Tool, ...]:
    functions = [mapping(tool.get("function")) for tool in objects(document.get("tools"))]
    return tuple(Tool(str(f.get("name", "")), mapping(f.get("parameters"))) for f in functions)


def chosen(choice: Any, given: tuple[Tool, ...]) -> tuple[Choice, tuple[Tool, ...]]:
    """What `tool_choice` says; a named tool is a required call of the only tool left."""
    if isinstance(choice, Mapping):
        name = mapping(choice.get("function")).get("name")
        named = tuple(tool for tool in given if tool.name == name)
        if not named:
            raise Refused(400, f"Tool choice {name!r} is not in `tools`.", param="tool_choice")
        return Choice.REQUIRED, named
    lowered = str(choice or Choice.AUTO).lower()
    return (_CHOICES.get(lowered, Choice.AUTO)), given


def _turn(message: Any, index: int) -> Turn:
    speaker = _SPEAKERS.get(str(mapping(message).get("role")))
    if speaker is None:
        raise Refused(400, f"Invalid 'messages[{index}]': no such role.", param="messages")
    texts = list(_texts(message.get("content")))
    if speaker is Speaker.TOOL:
        return Turn(speaker, values=tuple(texts))
    calls = [mapping(call.get("function")) for call in objects(message.get("tool_calls"))]
    return Turn(
        speaker,
        "\n".join(texts),
        images=sum(part.get("type") == "image_url" for part in objects(message.get("content"))),
        values=tuple(call.get("arguments", "") for call in calls),
    )


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in objects(content):
        if part.get("type") == "text":
            yield str(part.get("text", ""))
        elif part.get("type") == "document":
            data = mapping(part.get("document")).get("data", "")
            yield str(mapping(data).get("text", data))
