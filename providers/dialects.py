"""The dialects by name. A new one is a folder in adapters/ and a line below."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson

from providers import amounts
from providers.adapter import Adapter
from providers.adapters import anthropic, bedrock, cohere, deepgram, elevenlabs, gemini, openai
from providers.adapters.manifest import ManifestAdapter, compile_manifest

MOST_MANIFESTS: Final = 1024

DIALECTS: dict[str, Adapter] = {
    "openai": openai.ADAPTER,
    "anthropic": anthropic.ADAPTER,
    "gemini": gemini.ADAPTER,
    "cohere": cohere.ADAPTER,
    "bedrock": bedrock.ADAPTER,
    "deepgram": deepgram.ADAPTER,
    "elevenlabs": elevenlabs.ADAPTER,
}
ADAPTERS: Final = (*DIALECTS, "manifest")
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
    if name != "manifest":
        return DIALECTS[name]
    return _of_manifest(orjson.dumps(manifest or {}, option=orjson.OPT_NON_STR_KEYS))


@lru_cache(maxsize=MOST_MANIFESTS)
def _of_manifest(text: bytes) -> Adapter:
    """Adapters hold nothing of a call, so a definition is compiled once for all snapshots: what
    is loaded anew after a change is the change."""
    return ManifestAdapter(compile_manifest(orjson.loads(text)))
