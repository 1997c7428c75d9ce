"""What the adapters of chat providers that do not speak OpenAI's words have in common: whose
turn it is, what a message may say there, and what a tool was called with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson

from providers.adapter import Unsupported

Message = Mapping[str, Any]
Blocks = list[dict[str, Any]]
SYSTEM = ("system", "developer")
# What answers have and clients send back with them, which is no input; an adapter reads of it what
# it put there itself.
_TOLD = frozenset(
    {
        *("annotations", "citations", "extra_content"),
        *("reasoning", "reasoning_content", "reasoning_details"),
    }
)


def role_of(
    message: Message, place: str, known: Mapping[str, Collection[str]], *, provider: str
) -> str:
    """`known`: what a message of each role may have besides; an answer, what answers have. Raises
    Unsupported for more."""
    role = str(message.get("role"))
    fields = known.get(role)
    if fields is None:
        raise Unsupported(f"{place}.role", f"{provider} has no role {role!r}.")
    told = _TOLD if role == "assistant" else ()
    for field, value in message.items():
        if value and field not in fields and field != "role" and field not in told:
            raise Unsupported(f"{place}.{field}", f"{provider} cannot express {field!r} here.")
    return role


def arguments_of(call: Message, place: str, *, provider: str) -> dict[str, Any]:
    """What a message's tool call passes on. Raises Unsupported."""
    if call.get("type", "function") != "function":
        raise Unsupported(f"{place}.type", f"{provider} takes calls of type 'function' here.")
    arguments = json_object(call["function"].get("arguments") or "{}")
    if arguments is None:
        raise Unsupported(f"{place}.function.arguments", "Arguments must be a JSON object.")
    return arguments


def json_object(text: str) -> dict[str, Any] | None:
    """None for what is none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def in_turns(
    messages: Sequence[Message],
    known: Mapping[str, Collection[str]],
    *,
    provider: str,
    texts: Callable[[Any, str], Blocks],
    blocks: Callable[[Message, str, str], Blocks],
) -> tuple[Blocks, list[dict[str, Any]]]:
    """The system prompt's `texts`, and turns of `blocks` in which user and assistant alternate:
    neighbours of one role become one turn, an empty one none. Raises Unsupported."""
    system: Blocks = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        role = role_of(message, place, known, provider=provider)
        if role in SYSTEM:
            system += texts(message.get("content"), f"{place}.content")
        elif said := blocks(message, role, place):
            speaker = "assistant" if role == "assistant" else "user"
            if not turns or turns[-1]["role"] != speaker:
                turns.append({"role": speaker, "content": []})
            turns[-1]["content"] += said
    if not turns:
        raise Unsupported("messages", f"{provider} needs a message that is not a system message.")
    return system, turns
