"""The body of Anthropic's Messages API, from OpenAI's fields.

What Anthropic cannot express is refused, field by field. Fields that only Anthropic knows
(`thinking`, `top_k`, `system` …) pass through under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.adapters.anthropic.messages import conversation
from providers.call import Call, Upstream
from providers.openai_wire import DEFAULT_MAX_OUTPUT
from providers.translation import refuse_others, stop_list

_OWN = ("thinking", "top_k", "container", "context_management", "mcp_servers")
_CHAT = {
    *_OWN,
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_EFFORTS = {"none": None, "minimal": "low", "low": "low", "medium": "medium", "high": "high"}


def chat_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported for the first field that cannot be expressed."""
    params = call.params
    refuse_others(params, _CHAT, "Anthropic")
    system, messages = conversation(params["messages"])
    body: dict[str, Any] = {
        "model": upstream.model,
        # Anthropic demands a limit; OpenAI's clients mostly leave it to the model.
        "max_tokens": params.get("max_completion_tokens")
        or params.get("max_tokens")
        or upstream.max_output
        or DEFAULT_MAX_OUTPUT,
        "messages": messages,
    }
    if system:
        body["system"] = system
    if call.stream:
        body["stream"] = True
    body |= _sampling(params) | _tools(params) | _output(params)
    if user := params.get("user"):
        body["metadata"] = {"user_id": user}
    return body | {name: params[name] for name in _OWN if params.get(name) is not None}


def _sampling(params: Mapping[str, Any]) -> dict[str, Any]:
    temperature = params.get("temperature")
    if temperature is not None and temperature > 1:
        raise Unsupported("temperature", "Anthropic takes a temperature from 0 to 1.")
    sampling = {name: params[name] for name in ("temperature", "top_p") if params.get(name)}
    if temperature == 0:
        sampling["temperature"] = 0
    if stop := stop_list(params):
        sampling["stop_sequences"] = stop
    return sampling


def _tools(params: Mapping[str, Any]) -> dict[str, Any]:
    tools = params.get("tools")
    if not tools:
        return {}
    choice = _choice(params.get("tool_choice") or "auto")
    if params.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    body: dict[str, Any] = {"tools": [_tool(tool, index) for index, tool in enumerate(tools)]}
    return body if choice == {"type": "auto"} else body | {"tool_choice": choice}


def _tool(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Unsupported(f"tools.{index}.type", "Anthropic takes tools of type 'function' here.")
    function = tool["function"]
    known: dict[str, Any] = {
        "name": function["name"],
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for field in ("description", "strict"):
        if function.get(field) is not None:
            known[field] = function[field]
    return known


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    raise Unsupported("tool_choice", "Anthropic takes auto, none, required or one function.")


def _output(params: Mapping[str, Any]) -> dict[str, Any]:
    """`output_config`: the answer's form, and how much to think."""
    config: dict[str, Any] = {}
    form = params.get("response_format") or {"type": "text"}
    if form["type"] == "json_schema":
        schema = form["json_schema"].get("schema") or {"type": "object"}
        config["format"] = {"type": "json_schema", "schema": schema}
    elif form["type"] != "text":
        raise Unsupported(
            "response_format", "Anthropic takes a JSON schema, not JSON mode without one."
        )
    effort = params.get("reasoning_effort")
    if effort is not None:
        if effort not in _EFFORTS:
            raise Unsupported("reasoning_effort", f"Anthropic has no effort {effort!r}.")
        if _EFFORTS[effort]:
            config["effort"] = _EFFORTS[effort]
    return {"output_config": config} if config else {}
