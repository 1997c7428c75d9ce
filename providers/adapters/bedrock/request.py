"""Bodies of Converse and of the embedding models, from OpenAI's fields.

What Bedrock cannot express is refused, field by field. Fields that only Bedrock knows pass
through under their own names (`additionalModelRequestFields` for what one model knows).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from providers.adapter import Unsupported
from providers.adapters.bedrock.messages import conversation, uses_tools
from providers.call import Call, Upstream
from providers.translation import embedding_texts, refuse_others, stop_list

_OWN = (
    *("additionalModelRequestFields", "guardrailConfig", "performanceConfig"),
    *("promptVariables", "requestMetadata"),
)
_CHAT = {
    *_OWN,
    *("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"),
    *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
}
# Converse has no such thing, and zero or false asks for none.
_OFF = ("frequency_penalty", "presence_penalty", "logprobs")
_EMBEDDINGS = frozenset({"input", "encoding_format", "dimensions"})
_TOOL = frozenset({"type", "function"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})


def chat_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported for the first field that cannot be expressed."""
    params = call.params
    refuse_others(params, _CHAT | {name for name in _OFF if not params.get(name)}, "Bedrock")
    system, turns = conversation(params["messages"])
    body: dict[str, Any] = {"messages": turns}
    if system:
        body["system"] = system
    if inference := _inference(params, upstream):
        body["inferenceConfig"] = inference
    if tools := _tools(params, needed=uses_tools(turns)):
        body["toolConfig"] = tools
    if form := _format(params.get("response_format")):
        body["outputConfig"] = {"textFormat": form}
    return body | {name: params[name] for name in _OWN if params.get(name) is not None}


def _inference(params: Mapping[str, Any], upstream: Upstream) -> dict[str, Any]:
    inference: dict[str, Any] = {}
    names = ("max_completion_tokens", "max_tokens")
    if asked := [params[name] for name in names if params.get(name)]:
        inference["maxTokens"] = min([*asked, upstream.max_output or asked[0]])
    if (temperature := params.get("temperature")) is not None:
        if temperature > 1:
            raise Unsupported("temperature", "Bedrock takes a temperature from 0 to 1.")
        inference["temperature"] = temperature
    if params.get("top_p") not in (None, 1):  # 1 asks for nothing, and some refuse both
        inference["topP"] = params["top_p"]
    if stop := stop_list(params):
        inference["stopSequences"] = stop
    return inference


def _tools(params: Mapping[str, Any], *, needed: bool) -> dict[str, Any]:
    """`needed`: with calls among the messages, Bedrock wants to know the tools."""
    choice, tools = params.get("tool_choice") or "auto", params.get("tools")
    if not tools:
        if choice not in ("auto", "none"):
            raise Unsupported("tool_choice", "There is no tool to choose: send `tools` too.")
        if needed:
            raise Unsupported("tools", "Bedrock wants to know the tools that the messages call.")
        return {}
    if choice == "none" and not needed:
        return {}
    if params.get("parallel_tool_calls") is False:
        raise Unsupported("parallel_tool_calls", "Bedrock cannot be held to one tool call.")
    body: dict[str, Any] = {"tools": [_tool(tool, index) for index, tool in enumerate(tools)]}
    theirs = _choice(choice)
    return body if theirs == {"auto": {}} else body | {"toolChoice": theirs}


def _tool(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Unsupported(f"tools.{index}.type", "Bedrock takes tools of type 'function' here.")
    if unknown := {field for field in tool if tool[field] is not None} - _TOOL:
        raise Unsupported(f"tools.{index}.{min(unknown)}", "Bedrock has no such field.")
    function = tool["function"]
    if unknown := {field for field in function if function[field] is not None} - _FUNCTION:
        raise Unsupported(f"tools.{index}.function.{min(unknown)}", "Bedrock has no such field.")
    schema = {"type": "object", **(function.get("parameters") or {"properties": {}})}
    spec: dict[str, Any] = {"name": function["name"], "inputSchema": {"json": schema}}
    if description := function.get("description"):
        spec["description"] = description
    if function.get("strict"):
        spec["strict"] = True
    return {"toolSpec": spec}


def _choice(choice: Any) -> dict[str, Any]:
    if choice in ("auto", "required"):
        return {"any" if choice == "required" else "auto": {}}
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        return {"tool": {"name": choice["function"]["name"]}}
    raise Unsupported("tool_choice", "Bedrock takes auto, required or one function here.")


def _format(wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    kind = wanted["type"] if wanted else "text"
    if not wanted or kind == "text":
        return {}
    if kind != "json_schema":
        raise Unsupported(
            "response_format.type", "Bedrock takes a JSON schema, not JSON mode without one."
        )
    spec = wanted["json_schema"]
    if not spec.get("schema"):
        raise Unsupported("response_format.json_schema.schema", "Bedrock needs a schema.")
    told = {name: spec[name] for name in ("name", "description") if spec.get(name)}
    schema = {**told, "schema": orjson.dumps(spec["schema"]).decode()}
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


def is_titan(model: str) -> bool:
    return "titan-embed" in model


def embeddings_body(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Each model has a form of its own, of which Titan's takes one text."""
    refuse_others(call.params, _EMBEDDINGS, "Bedrock")
    texts = embedding_texts(call.params, "Bedrock")
    size = call.params.get("dimensions")
    if is_titan(upstream.model):
        if len(texts) != 1:
            raise Unsupported("input", "Titan embeds one text a call.")
        body: dict[str, Any] = {"inputText": texts[0]}
        return body | {"dimensions": size} if size else body
    if "cohere.embed" not in upstream.model:
        raise Unsupported("model", f"{upstream.model} is no embedding model that is known here.")
    # What is stored and what is searched for are told apart by nothing that OpenAI's clients say.
    body = {"texts": texts, "input_type": "search_document", "embedding_types": ["float"]}
    return body | {"output_dimension": size} if size else body
