"""What a service of OpenAI's dialect wants changed in the fields of a request: other names, other
words, what it does unasked, and what it does not want to hear again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from providers import amounts, reranking
from providers.adapter import Unsupported
from providers.call import Call, Upstream

GONE: Final[Any] = object()


def changes_of(call: Call, upstream: Upstream) -> dict[str, Any]:
    """Raises Unsupported."""
    if call.operation == amounts.RERANK:
        gone = {name: GONE for name in reranking.OURS if name in call.params}
        return gone | {"documents": reranking.texts(call)}
    if call.operation == amounts.IMAGES:
        return _of_images(call.params, upstream)
    return {}


def renamed(
    params: Mapping[str, Any], changes: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """`changes`, with the service's own names, and without what it does anyway."""
    merged = {**params, **changes}
    done = dict(changes)
    for name, value in settings.get("usual_values", {}).items():
        if merged.get(name) == value:
            done[name] = GONE
    for name, other in settings.get("renamed_parameters", {}).items():
        if name in merged and done.get(name) is not GONE:
            done |= {name: GONE, other: merged[name]}
    return done


def without_told(params: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The messages, if one of them, or a call in one, has any of the fields."""
    messages = params.get("messages") or ()
    parts = (part for message in messages for part in (message, *_calls(message)))
    if not names or not any(name in part for part in parts for name in names):
        return {}
    return {"messages": [_without(message, names) for message in messages]}


def _calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return message.get("tool_calls") or ()


def _without(message: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A refusal is what was said, in a field of its own."""
    made = {name: value for name, value in message.items() if name not in names}
    if "refusal" in names and message.get("refusal"):
        made["content"] = made.get("content") or message["refusal"]
    if calls := _calls(made):
        made["tool_calls"] = [_without(call, names) for call in calls]
    return made


def _of_images(params: Mapping[str, Any], upstream: Upstream) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    formats = upstream.settings.get("image_formats")
    asked = params.get("response_format")
    if formats is not None and asked is not None:
        if asked not in formats:
            raise Unsupported("response_format", f"{upstream.provider} gives no {asked}.")
        changes["response_format"] = formats[asked] or GONE
    size = params.get("size")
    if upstream.settings.get("image_sizes") == "width_height" and size:
        changes["size"] = GONE
        if size != "auto":
            width, _, height = size.partition("x")
            changes |= {"width": int(width), "height": int(height)}
    return changes
