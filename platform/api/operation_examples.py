"""Parameters with which each operation answers, to be tried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from providers.operations import Operation

CHAT: Final = {"model": "fast", "messages": [{"role": "user", "content": "Hello!"}]}
EMBEDDINGS: Final = {"model": "text-embedding-3-small", "input": "Hello!"}
RECORDING: Final = "recording.mp3"
_BODIES: Final[Mapping[str, Any]] = {
    "chat.completions": CHAT,
    "embeddings": EMBEDDINGS,
    "rerank": {
        "model": "rerank-v3.5",
        "query": "What is the capital of France?",
        "documents": ["Berlin is in Germany.", "Paris is the capital of France."],
    },
    "moderations": {"input": "Hello!"},
    "image.generations": {"model": "gpt-image-1", "prompt": "A switchboard, in watercolours"},
    "audio.speech": {"model": "tts-1", "voice": "alloy", "input": "Hello!"},
    "audio.transcriptions": {"model": "whisper-1", "file": RECORDING},
}


def example_of(operation: Operation) -> dict[str, Any]:
    """Parameters with which the operation answers: the schema's own examples."""
    if operation.name in _BODIES:
        return dict(_BODIES[operation.name])
    schema = operation.request_schema
    required = schema.get("required", ())
    properties = schema["properties"]
    return {name: _example(properties[name]) for name in required if name in properties}


def _example(schema: Mapping[str, Any]) -> Any:
    for source in ("examples", "enum"):
        if schema.get(source):
            return schema[source][0]
    return schema.get("default", schema.get("minimum", "…"))
