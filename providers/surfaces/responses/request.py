"""A Responses request as a chat completion's, as far as nothing is kept between calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.surfaces.responses.items import messages_of
from providers.surfaces.surface import refuse_others

_SAME = (
    *("temperature", "top_p", "service_tier"),
    *("user", "safety_identifier", "prompt_cache_key"),
)
_NOT_KEPT = "Nothing is kept here between calls: send the whole conversation as `input`."
# What asks for a thing that there is not, and why.
_REFUSED = {
    "previous_response_id": _NOT_KEPT,
    "conversation": _NOT_KEPT,
    "store": "Nothing is kept here between calls: leave it out, or send false.",
    "background": "An answer is given while you wait: leave it out, or use a stream.",
    "prompt": "No prompts are kept here: send it as `instructions` and `input`.",
    "max_tool_calls": "It is of tools that OpenAI runs itself, which are not passed on.",
    "top_logprobs": "Probabilities of tokens are told by chat completions only.",
}
_INCLUDED = ("reasoning.encrypted_content",)
_TOOL = frozenset({"type", "name", "description", "parameters", "strict"})
_FORMAT = frozenset({"type", "name", "description", "schema", "strict"})


def chat_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The chat completion that is asked for. `document` is of the form's schema. Raises
    Unsupported."""
    _refuse(document)
    params: dict[str, Any] = {"model": document["model"], "messages": _messages(document)}
    params |= {name: document[name] for name in _SAME if document.get(name) is not None}
    if limit := document.get("max_output_tokens"):
        params["max_tokens"] = limit
    if effort := (document.get("reasoning") or {}).get("effort"):
        params["reasoning_effort"] = effort
    if document.get("stream"):
        params |= {"stream": True, "stream_options": {"include_usage": True}}
    return params | _text(document.get("text") or {}) | _tools(document)


def _refuse(document: Mapping[str, Any]) -> None:
    for name, why in _REFUSED.items():
        if document.get(name) not in (None, False, 0, ""):
            raise Unsupported(name, why)
    if document.get("truncation") not in (None, "disabled"):
        raise Unsupported("truncation", "A conversation is never cut: leave it out.")
    refuse_others(document.get("reasoning") or {}, ("effort", "summary"), "reasoning")
    for index, name in enumerate(document.get("include") or ()):
        if name not in _INCLUDED:
            raise Unsupported(f"include.{index}", f"Only {_INCLUDED[0]} can be included.")


def _messages(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    instructions, given = document.get("instructions"), document["input"]
    before = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str):
        return [*before, {"role": "user", "content": given}]
    return [*before, *messages_of(given)]


def _text(text: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if verbosity := text.get("verbosity"):
        made["verbosity"] = verbosity
    wanted = text.get("format") or {"type": "text"}
    refuse_others(wanted, _FORMAT, "text.format")
    if wanted["type"] == "json_object":
        made["response_format"] = {"type": "json_object"}
    elif wanted["type"] == "json_schema":
        names = ("name", "description", "strict", "schema")
        schema = {name: wanted[name] for name in names if wanted.get(name) is not None}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    return made


def _tools(document: Mapping[str, Any]) -> dict[str, Any]:
    tools, choice = document.get("tools"), document.get("tool_choice")
    chosen = _choice(choice) if choice else None
    if not tools:
        if chosen not in (None, "auto", "none"):
            raise Unsupported("tool_choice", "There is no tool to choose: send `tools` too.")
        return {}
    made: dict[str, Any] = {"tools": [_tool(tool, f"tools.{n}") for n, tool in enumerate(tools)]}
    if chosen is not None:
        made["tool_choice"] = chosen
    if (parallel := document.get("parallel_tool_calls")) is not None:
        made["parallel_tool_calls"] = parallel
    return made


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if choice["type"] != "function":
        raise Unsupported("tool_choice.type", "Choose auto, none, required or a function.")
    refuse_others(choice, ("type", "name"), "tool_choice")
    return {"type": "function", "function": {"name": choice["name"]}}


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    if tool["type"] != "function":
        raise Unsupported(
            f"{place}.type", "Tools that are OpenAI's own are not passed on. Describe a function."
        )
    refuse_others(tool, _TOOL, place)
    names = ("name", "description", "parameters", "strict")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}
