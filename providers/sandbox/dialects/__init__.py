"""The dialects that the sandbox speaks; which one is meant is told by method, path and headers."""

from __future__ import annotations

from providers.sandbox.dialects.anthropic import Anthropic
from providers.sandbox.dialects.bedrock import Bedrock
from providers.sandbox.dialects.cohere import Cohere
from providers.sandbox.dialects.deepgram import Deepgram
from providers.sandbox.dialects.dialect import Dialect
from providers.sandbox.dialects.elevenlabs import ElevenLabs
from providers.sandbox.dialects.gemini import Gemini
from providers.sandbox.dialects.openai import OpenAi

# OpenAI's paths match by their ends alone, so it is asked last.
DIALECTS: tuple[Dialect, ...] = (
    *(Anthropic(), Bedrock(), Gemini(), Cohere(), Deepgram(), ElevenLabs()),
    OpenAi(),
)

__all__ = ["DIALECTS", "Dialect"]
