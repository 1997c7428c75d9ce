"""The body of Anthropic's Messages API, from OpenAI's fields.

What Anthropic cannot express is refused, field by field. Fields that only Anthropic knows
(`thinking`, `top_k` …) pass through under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.adapters.anthropic.generations import check
from providers.adapters.anthropic.messages import conversation
from providers.adapters.anthropic.schemas import closed
from providers.adapters.anthropic.thinking import thinking
from providers.call import Call, Upstream
from providers.openai_wire import DEFAULT_MAX_OUTPUT
from providers.translation import refuse_others, stop_list

_OWN = (
    *("cache_control", "container", "context_management", "inference_geo", "mcp_servers"),
    *("thinking", "top_k"),
)
_CHAT = {
    *_OWN,
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
    "output_config",
}
# Anthropic has no such thing, and zero or false asks for none.
_OFF = ("frequency_penalty", "presence_penalty", "logprobs")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_TOOL = frozenset({"type", "function", "cache_control"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})


def chat_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported for the first field that cannot be expressed."""
    params = call.params
    refuse_others(params, _CHAT | {name for name in _OFF if not params.get(name)}, "Anthropic")
    system, messages = conversation(params["messages"])
    limit = _limit(params, upstream)
    body: dict[str, Any] = {"model": upstream.model, "max_tokens": limit, "messages": messages}
    if system:
        body["system"] = system
    if call.stream:
        body["stream"] = True
    body |= _sampling(params) | _tools(params)
    body |= thinking(params.get("reasoning_effort"), upstream.model, limit)
    config = body.pop("output_config", {}) | _format(params.get("response_format"))
    if config := config | (params.get("output_config") or {}):
        body["output_config"] = config
    if user := params.get("safety_identifier") or params.get("user"):
        body["metadata"] = {"user_id": user}
    body |= {name: params[name] for name in _OWN if params.get(name) is not None}
    check(body, upstream.model)
    return body


def _limit(params: Mapping[str, Any], upstream: Upstream) -> int:
    """Anthropic demands one, and refuses more than the model can say; OpenAI's clients mostly
    leave it to the model."""
    names = ("max_completion_tokens", "max_tokens")
    most = upstream.max_output
    asked = [params[name] for name in names if params.get(name)]
    limit: int = min(asked, default=most or DEFAULT_MAX_OUTPUT)
    return min(limit, most) if most else limit


def _sampling(params: Mapping[str, Any]) -> dict[str, Any]:
    """Both default to 1, and many models refuse the two together, though at their defaults."""
    names = ("temperature", "top_p")
    sampling = {name: params[name] for name in names if params.get(name) not in (None, 1)}
    if sampling.get("temperature", 0) > 1:
        raise Unsupported("temperature", "Anthropic takes a temperature from 0 to 1.")
    if stop := stop_list(params):
        if not all(sequence.strip() for sequence in stop):
            raise Unsupported("stop", "Anthropic takes no stop sequence of white space alone.")
        sampling["stop_sequences"] = stop
    return sampling


def _tools(params: Mapping[str, Any]) -> dict[str, Any]:
    choice = _choice(params.get("tool_choice") or "auto")
    tools = params.get("tools")
    if not tools:
        if choice["type"] in ("any", "tool"):
            raise Unsupported("tool_choice", "There is no tool to choose: send `tools` too.")
        return {}
    if params.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    body: dict[str, Any] = {"tools": [_tool(tool, index) for index, tool in enumerate(tools)]}
    return body if choice == {"type": "auto"} else body | {"tool_choice": choice}


def _tool(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Unsupported(f"tools.{index}.type", "Anthropic takes tools of type 'function' here.")
    if unknown := {field for field in tool if tool[field] is not None} - _TOOL:
        raise Unsupported(f"tools.{index}.{min(unknown)}", "Anthropic has no such field.")
    function = tool["function"]
    if unknown := {field for field in function if function[field] is not None} - _FUNCTION:
        raise Unsupported(f"tools.{index}.function.{min(unknown)}", "Anthropic has no such field.")
    # A function without parameters has no schema at OpenAI; Anthropic wants an object's.
    translated = {
        "name": function["name"],
        "input_schema": {"type": "object", **(function.get("parameters") or {"properties": {}})},
    }
    if description := function.get("description"):
        translated["description"] = description
    if function.get("strict"):
        translated |= {"strict": True, "input_schema": closed(translated["input_schema"])}
    if mark := tool.get("cache_control"):
        translated["cache_control"] = mark
    return translated


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    raise Unsupported("tool_choice", "Anthropic takes auto, none, required or one function.")


def _format(wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    kind = wanted["type"] if wanted else "text"
    if kind not in ("text", "json_schema"):
        raise Unsupported(
            "response_format.type", "Anthropic takes a JSON schema, not JSON mode without one."
        )
    if not wanted or kind == "text":
        return {}
    schema = wanted["json_schema"].get("schema")
    if not schema:
        raise Unsupported("response_format.json_schema.schema", "Anthropic needs a schema.")
    return {"format": {"type": "json_schema", "schema": closed(schema)}}
