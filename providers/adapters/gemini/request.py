"""The body of generateContent and batchEmbedContents, from OpenAI's fields.

What Gemini cannot express is refused, field by field. `reasoning_effort` follows the table of
Google's own OpenAI-compatible endpoint: a token budget for generation 2.5, a level from 3 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers.adapter import Unsupported
from providers.adapters.gemini.messages import conversation
from providers.call import Call, Upstream
from providers.translation import embedding_texts, refuse_others, stop_list

_RENAMED = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
# Some models refuse these outright, so a value that asks for nothing is not sent.
_OFF_BY_DEFAULT = ("presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs")

_CHAT = {
    *_RENAMED,
    *("messages", "tools", "tool_choice", "parallel_tool_calls"),
    *("response_format", "stop", "reasoning_effort"),
}
_EMBEDDINGS = {"input", "dimensions", "encoding_format", "task_type"}

_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_VERSION = re.compile(r"gemini-(\d+(?:\.\d+)?)")
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def chat_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported for the first field that cannot be expressed."""
    params = call.params
    refuse_others(params, _CHAT, "Gemini")
    generation = _generation(upstream.model)
    body = conversation(params["messages"], signed=generation >= 3)
    if tools := params.get("tools"):
        body["tools"] = [{"functionDeclarations": [_declaration(*t) for t in enumerate(tools)]}]
    if config := _calling(params):
        body["toolConfig"] = {"functionCallingConfig": config}
    config = _generation_config(params)
    if thinking := _thinking(params.get("reasoning_effort"), upstream, generation):
        config["thinkingConfig"] = thinking
    if config:
        body["generationConfig"] = config
    return body


def embeddings_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """One request per text; `task_type` is an extra field of ours that Gemini knows."""
    params = call.params
    refuse_others(params, _EMBEDDINGS, "Gemini")
    shared: dict[str, Any] = {"model": model_path(upstream.model)}
    if dimensions := params.get("dimensions"):
        shared["outputDimensionality"] = dimensions
    if task := params.get("task_type"):
        shared["taskType"] = task
    texts = embedding_texts(params, "Gemini")
    return {"requests": [shared | {"content": {"parts": [{"text": text}]}} for text in texts]}


def model_path(model: str) -> str:
    """The model's resource name: `models/…` unless it names another collection."""
    return model if "/" in model else f"models/{model}"


def _generation(model: str) -> float:
    """The model's generation; aliases such as `gemini-flash-latest` are taken for new ones,
    and 0 stands for models that are no Gemini."""
    if match := _VERSION.search(model):
        return float(match[1])
    return 3.0 if "gemini" in model else 0.0


def _declaration(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Unsupported(f"tools.{index}.type", "Gemini takes tools of type `function` here.")
    function = tool["function"]
    declaration = {"name": function["name"]}
    if description := function.get("description"):
        declaration["description"] = description
    if parameters := function.get("parameters"):
        declaration["parametersJsonSchema"] = parameters
    return declaration


def _calling(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """functionCallingConfig. VALIDATED is AUTO with arguments held to the schema, which is
    what `strict` asks for; ANY always holds them."""
    if params.get("parallel_tool_calls") is False:
        raise Unsupported("parallel_tool_calls", "Gemini cannot be held to one tool call.")
    choice = params.get("tool_choice")
    if isinstance(choice, Mapping):
        return _named_choice(choice)
    strict = any(tool["function"].get("strict") for tool in params.get("tools") or [])
    if choice in (None, "auto") and strict:
        return {"mode": "VALIDATED"}
    if choice and choice not in _MODES:
        raise Unsupported("tool_choice", f"Gemini has no tool choice {choice!r}.")
    return {"mode": _MODES[choice]} if choice else None


def _named_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    kind = choice.get("type")
    if kind == "function":
        return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}
    if kind == "allowed_tools":
        allowed = choice["allowed_tools"]
        mode = "ANY" if allowed["mode"] == "required" else "VALIDATED"
        names = [tool["function"]["name"] for tool in allowed["tools"]]
        return {"mode": mode, "allowedFunctionNames": names}
    raise Unsupported("tool_choice.type", f"Gemini has no tool choice of type {kind!r}.")


def _generation_config(params: Mapping[str, Any]) -> dict[str, Any]:
    config = {
        theirs: params[ours] for ours, theirs in _RENAMED.items() if params.get(ours) is not None
    }
    for theirs in _OFF_BY_DEFAULT:
        if not config.get(theirs):
            config.pop(theirs, None)
    if stop := stop_list(params):
        config["stopSequences"] = stop
    return config | _format(params.get("response_format") or {"type": "text"})


def _format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind == "json_schema":
        spec = wanted["json_schema"]
        schema = dict(spec.get("schema") or {"type": "object"})
        if description := spec.get("description"):
            schema.setdefault("description", description)
        return {"responseMimeType": "application/json", "responseJsonSchema": schema}
    raise Unsupported("response_format.type", f"Gemini has no response format {kind!r}.")


def _thinking(effort: str | None, upstream: Upstream, generation: float) -> dict[str, Any]:
    """thinkingConfig. The provider row's `include_thoughts` asks for summaries of thoughts."""
    config = _effort(effort, upstream.model, generation) if effort else {}
    if upstream.settings.get("include_thoughts") is True:
        config["includeThoughts"] = True
    return config


def _effort(effort: str, model: str, generation: float) -> dict[str, Any]:
    pro = "-pro" in model
    if generation >= 3 and effort in _BUDGETS:
        return {"thinkingLevel": "low" if pro and effort == "minimal" else effort}
    if 2.5 <= generation < 3 and effort in _BUDGETS:
        return {"thinkingBudget": _BUDGETS[effort]}
    if 2.5 <= generation < 3 and effort == "none" and not pro:
        return {"thinkingBudget": 0}
    raise Unsupported("reasoning_effort", f"{model} cannot be asked for effort {effort!r}.")
