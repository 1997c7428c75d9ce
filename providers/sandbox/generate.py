"""The sandbox's model: the same prompt always gets the same answer.

text        echoes the last message: `You said: …`, or `The tool answered: …` after a result
tools       called when tools are given, not forbidden, the last message is no tool result, and
            either a call is required (the tools that the message names, else the first) or
            the user's message holds a tool's name as a word; arguments come from its schema
JSON mode   `{"answer": <the echo>}`, or an instance of the schema that was given
stop        cuts the text before the first stop sequence
max_tokens  cuts it after so many words; tool calls that do not fit are left out
"""

from __future__ import annotations

import hashlib
import json
import re

from providers.sandbox.instances import instance
from providers.sandbox.prompt import (
    Choice,
    Finish,
    Prompt,
    Reply,
    Speaker,
    Tool,
    ToolCall,
    spoken,
)

# No answer is longer unless the caller allows more: every provider has such a limit.
DEFAULT_MAX_TOKENS = 4096

_PIECE = re.compile(r"\s*\S+(?:\s+\Z)?")


def pieces(text: str) -> tuple[str, ...]:
    """The text word by word, spaces kept: joined again they are the text, each is one token."""
    return tuple(_PIECE.findall(text))


def reply(prompt: Prompt) -> Reply:
    answer_id = _digest(prompt.model, *(f"{turn.speaker}{turn.text}" for turn in prompt.turns))
    called = _called(prompt)
    limit = prompt.max_tokens or DEFAULT_MAX_TOKENS
    if called:
        calls = tuple(
            ToolCall(_digest(answer_id, str(index)), tool.name, _arguments(tool))
            for index, tool in enumerate(called)
        )
        fits = sum(call.tokens for call in calls) <= limit
        finish = Finish.TOOL_CALLS if fits else Finish.LENGTH
        return Reply(answer_id, prompt.input_tokens, finish, calls=calls if fits else ())
    text, stop_sequence = _stopped(_text(prompt), prompt.stop)
    said = pieces(text)
    finish = Finish.STOP_SEQUENCE if stop_sequence is not None else Finish.STOP
    if len(said) > limit:
        said, finish, stop_sequence = said[:limit], Finish.LENGTH, None
    return Reply(answer_id, prompt.input_tokens, finish, said, stop_sequence=stop_sequence)


def _called(prompt: Prompt) -> tuple[Tool, ...]:
    if prompt.choice is Choice.NONE or prompt.last.speaker is Speaker.TOOL or not prompt.tools:
        return ()
    named = tuple(tool for tool in prompt.tools if _names(prompt.last.text, tool.name))
    if not named and prompt.choice is Choice.REQUIRED:
        named = prompt.tools[:1]
    return named if prompt.parallel else named[:1]


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def _arguments(tool: Tool) -> dict[str, object]:
    made = instance(tool.schema or {"type": "object"})
    return made if isinstance(made, dict) else {}


def _text(prompt: Prompt) -> str:
    echo = _echo(prompt)
    if prompt.schema is None:
        return echo
    made = instance(prompt.schema) if prompt.schema else {"answer": echo}
    return json.dumps(made, ensure_ascii=False)


def _echo(prompt: Prompt) -> str:
    last = prompt.last
    if last.speaker is Speaker.TOOL:
        return "The tool answered: " + " ".join(spoken(value) for value in last.values)
    pictures = f" I see {last.images} image(s)." if last.images else ""
    return f"You said: {last.text or '(nothing)'}{pictures}"


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _digest(*parts: str) -> str:
    # A lone surrogate may reach us in JSON's escapes; it must not break an id.
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:24]
