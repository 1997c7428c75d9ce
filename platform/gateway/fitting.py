"""What a call needs of whoever answers it, and why a target will not do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from gateway.strategies import wanted_output
from lib.problems import InvalidRequest
from providers.call import Call
from providers.openai_wire import input_estimate
from providers.operations import Kind, Operation
from providers.operations.models import same_vectors
from providers.snapshot import RouteSpec, TargetSpec

NOTHING: frozenset[str] = frozenset()


def required_capabilities(call: Call) -> frozenset[str]:
    """What a chat call needs of a model beyond plain text."""
    params = call.params
    needs: set[str] = set()
    if params.get("tools"):
        needs.add("tools")
    response_format = params.get("response_format")
    if isinstance(response_format, Mapping) and response_format.get("type") == "json_schema":
        needs.add("json_schema")
    for message in params["messages"]:
        if isinstance(message.get("content"), list) and _has_image(message["content"]):
            needs.add("vision")
    return frozenset(needs) if needs else NOTHING


def _has_image(content: list[Any]) -> bool:
    return any(isinstance(part, Mapping) and part.get("type") == "image_url" for part in content)


def least_context(targets: Iterable[TargetSpec]) -> int:
    """The smallest of their models', in tokens; 0: none is known."""
    known = [target.model.context for target in targets if target.model]
    return min((context for context in known if context), default=0)


def tokens_beyond(context: int, call: Call, needs: frozenset[str]) -> int:
    """How many tokens a chat call needs, if that is more than `context`; else 0. It is counted
    only where it may be: a text has no more tokens than bytes, an image may have."""
    if len(call.body) + wanted_output(call) < context and "vision" not in needs:
        return 0
    tokens = input_estimate(call) + (wanted_output(call) or 1)
    return tokens if tokens > context else 0


def unfit(target: TargetSpec, needs: frozenset[str], tokens: int) -> str:
    """Why the target cannot answer a call that needs so much, in one word; "" if it can."""
    if target.model and not needs <= target.model.capabilities:
        return "incapable"
    if target.model and target.model.context and tokens > target.model.context:
        return "too_long"
    return ""


def elsewhere(target: TargetSpec, route: RouteSpec, operation: Operation) -> str:
    """Vectors of two models cannot be compared: a call for them never falls back to another
    model than its route's first."""
    first, own = route.targets[0].model, target.model
    if operation.kind is not Kind.EMBEDDINGS or first is None or own is None:
        return ""
    return "" if same_vectors(first.model_id, own.model_id) else "other_model"


def refusal(operation: Operation, reasons: Set[str], provider: str) -> InvalidRequest | None:
    """What to tell a caller whose call no target will do for; None where that is not its own
    doing. `provider` is the one it asked for, if any."""
    if provider and reasons == {"not_asked_for"}:
        detail = f"The provider {provider[:60]!r} does not serve {operation.name} here."
        return InvalidRequest(
            detail, param="provider", errors=[{"detail": detail, "pointer": "/provider"}]
        )
    if "no_credential" in reasons:
        return None
    if "too_long" in reasons:
        return InvalidRequest(
            "The messages and the output asked for are together longer than any model that could "
            "answer takes. Send less, ask for less, or choose another model.",
            param="messages",
        )
    if "incapable" in reasons:
        return InvalidRequest(
            "No target of this model can do what the request asks for (tools, images or a JSON "
            "schema). Choose another model.",
            param="model",
        )
    return None
