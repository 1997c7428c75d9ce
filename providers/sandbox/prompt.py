"""What was asked and what is answered, in no dialect: each dialect translates to and from these.

Tokens are counted by one rule everywhere, so that usage is the same whichever dialect serves:
a token is a word (what str.split() separates). Tool definitions count nothing, an image 100.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

IMAGE_TOKENS = 100


class Speaker(enum.StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Finish(enum.StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Choice(enum.StrEnum):
    """Whether tools may, must or must not be called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, or a part of one. `values` are the arguments and results of tool calls: their
    leaves are counted, so that JSON in a string and the same JSON as an object cost the same."""

    speaker: Speaker
    text: str = ""
    images: int = 0
    values: tuple[Any, ...] = ()

    @property
    def tokens(self) -> int:
        told = sum(words(leaf) for value in self.values for leaf in _leaves(value))
        return words(self.text) + IMAGE_TOKENS * self.images + told


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat request. `choice` is REQUIRED with one tool in `tools` when a tool was named.

    `schema` asks for JSON of that form; `{}` for any object. `max_tokens` None: no limit given.
    """

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice.AUTO
    parallel: bool = True
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def input_tokens(self) -> int:
        """At least 1: no provider bills nothing for a prompt."""
        return max(1, sum(turn.tokens for turn in self.turns))

    @property
    def last(self) -> Turn:
        """What is to be answered: the last turn that is not the system's."""
        spoken = [turn for turn in self.turns if turn.speaker is not Speaker.SYSTEM]
        return spoken[-1] if spoken else Turn(Speaker.USER)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; it costs a token for its name and the words of its arguments."""

    id: str
    name: str
    arguments: Mapping[str, Any]

    @property
    def text(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)

    @property
    def tokens(self) -> int:
        return 1 + words(self.text)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `pieces` of text, one token each, or tool calls. `id` is bare hexadecimal."""

    id: str
    input_tokens: int
    finish: Finish
    pieces: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    stop_sequence: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        return len(self.pieces) + sum(call.tokens for call in self.calls)


def words(text: str) -> int:
    return len(text.split())


def spoken(value: Any) -> str:
    """A tool's result as text; JSON always written the same way."""
    value = _parsed(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _leaves(value: Any) -> Iterator[str]:
    value = _parsed(value)
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _parsed(value: Any) -> Any:
    """JSON objects and lists that are written in a string count as what they are."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
