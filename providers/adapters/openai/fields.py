"""What a service of OpenAI's dialect wants changed in the fields of a request that is no chat:
other names, other words, and what it does unasked."""

from __future__ import annotations

from collections.abc import Mapping
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
