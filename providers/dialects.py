"""The dialects by name. A new one is a folder in adapters/ and a line below."""

from __future__ import annotations

from typing import Any

from providers import amounts
from providers.adapter import Adapter
from providers.adapters import anthropic, bedrock, cohere, deepgram, elevenlabs, gemini, openai
from providers.adapters.manifest import ManifestAdapter, compile_manifest

DIALECTS: dict[str, Adapter] = {
    "openai": openai.ADAPTER,
    "anthropic": anthropic.ADAPTER,
    "gemini": gemini.ADAPTER,
    "cohere": cohere.ADAPTER,
    "bedrock": bedrock.ADAPTER,
    "deepgram": deepgram.ADAPTER,
    "elevenlabs": elevenlabs.ADAPTER,
}
_CHAT = frozenset({"chat.completions", "embeddings"})
_OTHERS: dict[str, frozenset[str]] = {
    "openai": _CHAT | amounts.OF.keys(),
    "cohere": _CHAT | {amounts.RERANK},
    "deepgram": frozenset({amounts.TRANSCRIPTIONS}),
    "elevenlabs": frozenset({amounts.SPEECH, amounts.TRANSCRIPTIONS}),
}


def serves(name: str, operation: str) -> bool:
    """Whether the dialect called `name` has an operation of models."""
    return operation in _OTHERS.get(name, _CHAT)


def adapter_for(name: str, manifest: dict[str, Any] | None = None) -> Adapter:
    """The adapter called `name`; for `manifest`, one made from that definition.

    Raises KeyError for an unknown name and ManifestError for a definition that cannot work.
    """
    if name == "manifest":
        return ManifestAdapter(compile_manifest(manifest or {}))
    return DIALECTS[name]
