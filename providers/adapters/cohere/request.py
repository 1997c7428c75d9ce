"""The body of Cohere's v2 chat, embed and rerank, from OpenAI's fields.

What Cohere cannot express is refused, field by field. Fields that only Cohere knows
(`documents`, `safety_mode` …) pass through under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.adapters.cohere.messages import conversation
from providers.call import Call, Upstream
from providers.reranking import texts
from providers.translation import embedding_texts, refuse_others, stop_list

_RENAMED = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "top_k": "k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_OWN = ("citation_options", "documents", "priority", "safety_mode", "thinking")
_CHAT = {
    *_RENAMED,
    *_OWN,
    *("messages", "tools", "tool_choice", "parallel_tool_calls", "top_p", "logprobs"),
    *("response_format", "stop", "reasoning_effort"),
}
_EMBEDDINGS = {"input", "dimensions", "encoding_format", "input_type", "truncate"}
_RERANK = {*("query", "documents", "top_n", "return_documents"), "max_tokens_per_doc", "priority"}

# Cohere counts a budget of thought tokens; the figures are those that other providers use for
# the same words. `high` leaves the thoughts without a budget.
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": None}

_CHOICES = {"auto": None, "none": "NONE", "required": "REQUIRED"}

# Cohere refuses top_p outside these; 1, OpenAI's default, becomes the nearest it takes.
_TOP_P = (0.01, 0.99)


def chat_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported for the first field that cannot be expressed."""
    params = call.params
    refuse_others(params, _CHAT, "Cohere")
    body = {
        "model": upstream.model,
        "messages": conversation(params["messages"]),
        "stream": call.stream,
        **_sampling(params),
        **_tools(params),
        **_format(params.get("response_format") or {"type": "text"}),
        **_thinking(params.get("reasoning_effort")),
    }
    return body | {name: params[name] for name in _OWN if params.get(name) is not None}


def embeddings_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Cohere embeds a question and what is searched for it differently, and must be told. An
    OpenAI client that says nothing (extra field `input_type`) gets the provider row's
    `input_type`, or `search_document`: most texts embedded are the ones to be found."""
    params = call.params
    refuse_others(params, _EMBEDDINGS, "Cohere")
    default = upstream.settings.get("input_type", "search_document")
    body = {
        "model": upstream.model,
        "texts": embedding_texts(params, "Cohere"),
        "input_type": params.get("input_type") or default,
        "embedding_types": ["float"],
    }
    if dimensions := params.get("dimensions"):
        body["output_dimension"] = dimensions
    if truncate := params.get("truncate"):
        body["truncate"] = truncate
    return body


def rerank_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported for the first field that cannot be expressed."""
    params = call.params
    refuse_others(params, _RERANK, "Cohere")
    body = {"model": upstream.model, "query": params["query"], "documents": texts(call)}
    own = ("top_n", "max_tokens_per_doc", "priority")
    return body | {name: params[name] for name in own if params.get(name) is not None}


def _sampling(params: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("presence_penalty", "frequency_penalty"):
        if not 0 <= (params.get(name) or 0) <= 1:
            raise Unsupported(name, "Cohere takes penalties from 0 to 1.")
    sampling = {
        theirs: params[ours] for ours, theirs in _RENAMED.items() if params.get(ours) is not None
    }
    if (top_p := params.get("top_p")) is not None:
        lowest, highest = _TOP_P
        sampling["p"] = min(max(top_p, lowest), highest)
    if params.get("logprobs"):
        sampling["logprobs"] = True
    if stop := stop_list(params):
        sampling["stop_sequences"] = stop
    return sampling


def _tools(params: Mapping[str, Any]) -> dict[str, Any]:
    tools = params.get("tools") or []
    if params.get("parallel_tool_calls") is False:
        raise Unsupported("parallel_tool_calls", "Cohere cannot be held to one tool call.")
    choice = params.get("tool_choice")
    if isinstance(choice, Mapping):
        tools, choice = _named_tool(tools, choice), "required"
    if choice and choice not in _CHOICES:
        raise Unsupported("tool_choice", f"Cohere has no tool choice {choice!r}.")
    body: dict[str, Any] = {}
    if tools:
        body["tools"] = [_tool(*each) for each in enumerate(tools)]
    # Cohere's strictness is for all tools or none; more than asked for breaks no promise.
    if any(tool["function"].get("strict") for tool in tools):
        body["strict_tools"] = True
    if choice and (theirs := _CHOICES[choice]):
        body["tool_choice"] = theirs
    return body


def _named_tool(tools: list[Any], choice: Mapping[str, Any]) -> list[Any]:
    """Cohere cannot name the tool it must call; given only that one, it can call no other."""
    if choice.get("type") != "function":
        raise Unsupported("tool_choice.type", "Cohere knows no such tool choice.")
    name = choice["function"]["name"]
    named = [tool for tool in tools if tool.get("function", {}).get("name") == name]
    if not named:
        raise Unsupported("tool_choice.function.name", f"`tools` holds no function {name!r}.")
    return named


def _tool(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Unsupported(f"tools.{index}.type", "Cohere takes tools of type `function` only.")
    function = {name: value for name, value in tool["function"].items() if name != "strict"}
    # A function without parameters is legal at OpenAI; Cohere wants the schema.
    function.setdefault("parameters", {"type": "object", "properties": {}})
    return {"type": "function", "function": function}


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if kind != "json_schema":
        raise Unsupported("response_format.type", f"Cohere has no response format {kind!r}.")
    spec = wanted["json_schema"]
    schema = dict(spec.get("schema") or {"type": "object"})
    if description := spec.get("description"):
        schema.setdefault("description", description)
    return {"response_format": {"type": "json_object", "json_schema": schema}}


def _thinking(effort: str | None) -> dict[str, Any]:
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    if effort not in _BUDGETS:
        raise Unsupported("reasoning_effort", f"Cohere has no effort {effort!r}.")
    thinking: dict[str, Any] = {"type": "enabled"}
    if budget := _BUDGETS[effort]:
        thinking["token_budget"] = budget
    return {"thinking": thinking}
