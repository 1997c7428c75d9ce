"""OpenAI's messages as Gemini's turns and system instruction.

System and developer messages all become the system instruction, which is one and stands
before every turn. What a client got as `reasoning_content` is not sent back: Gemini carries
its own thoughts on in the signatures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from providers.adapter import Unsupported
from providers.adapters.gemini.parts import Part, parts_of, text_of
from providers.turns import SYSTEM, arguments_of, json_object, role_of

# Google's documented stand-in for calls that a Gemini model did not make itself. From
# generation 3 on, a call of the running turn without a signature is refused, so a conversation
# that began at another provider could not fall back to Gemini without it.
FOREIGN_SIGNATURE = "skip_thought_signature_validator"

_FIELDS = {
    "system": {"content"},
    "developer": {"content"},
    "user": {"content"},
    "assistant": {"content", "tool_calls", "refusal"},
    "tool": {"content", "tool_call_id", "name"},
}


def conversation(messages: Sequence[Mapping[str, Any]], *, signed: bool) -> dict[str, Any]:
    """`contents` and `systemInstruction`. `signed`: the model wants signatures on calls."""
    system: list[Part] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        role = role_of(message, place, _FIELDS, provider="Gemini")
        if role in SYSTEM:
            system.append({"text": text_of(message.get("content"), f"{place}.content")})
        elif role == "user":
            turns.append(_turn("user", parts_of(message.get("content"), f"{place}.content")))
        elif role == "assistant":
            names.update((call["id"], call["function"]["name"]) for call in _calls(message))
            turns.append(_turn("model", _answer(message, place, signed=signed)))
        else:
            _add_result(turns, _result(message, place, names))
    if not turns:
        raise Unsupported("messages", "Gemini needs a message that is not a system message.")
    body: dict[str, Any] = {"contents": turns}
    return body | {"systemInstruction": {"parts": system}} if system else body


def signature_of(carrier: Mapping[str, Any]) -> str | None:
    """The thought signature that a message or tool call brings back, in the place where
    Google's own OpenAI-compatible endpoint puts it."""
    google = (carrier.get("extra_content") or {}).get("google") or {}
    signature: str | None = google.get("thought_signature")
    return signature


def _turn(role: str, parts: list[Part]) -> dict[str, Any]:
    # A turn without parts is refused; an empty text is not.
    return {"role": role, "parts": parts or [{"text": ""}]}


def _calls(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return message.get("tool_calls") or []


def _answer(message: Mapping[str, Any], place: str, *, signed: bool) -> list[Part]:
    content = message.get("content") or message.get("refusal")
    parts = parts_of(content, f"{place}.content")
    if signature := signature_of(message):
        if not parts:
            parts.append({"text": ""})
        parts[-1]["thoughtSignature"] = signature
    for index, call in enumerate(_calls(message)):
        part = _call(call, f"{place}.tool_calls.{index}")
        # Of calls made together only the first one bears a signature.
        signature = signature_of(call) or (FOREIGN_SIGNATURE if signed and not index else None)
        if signature:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _call(call: Mapping[str, Any], place: str) -> Part:
    arguments = arguments_of(call, place, provider="Gemini")
    name = call["function"]["name"]
    return {"functionCall": {"id": call["id"], "name": name, "args": arguments}}


def _result(message: Mapping[str, Any], place: str, names: Mapping[str, str]) -> Part:
    call_id = str(message.get("tool_call_id"))
    if call_id not in names:
        raise Unsupported(
            f"{place}.tool_call_id", "No earlier assistant message made a tool call of this id."
        )
    text = text_of(message.get("content"), f"{place}.content")
    # Without the key `output`, Gemini takes the whole object as the function's output.
    response = json_object(text)
    if response is None:
        response = {"output": text}
    return {"functionResponse": {"id": call_id, "name": names[call_id], "response": response}}


def _add_result(turns: list[dict[str, Any]], result: Part) -> None:
    """The results of calls made together must stand in one turn."""
    if turns and "functionResponse" in turns[-1]["parts"][-1]:
        turns[-1]["parts"].append(result)
    else:
        turns.append(_turn("user", [result]))
