"""OpenAI's dialect, which most AI services speak; what differs between them is settings."""

from __future__ import annotations

from providers.adapters.openai.adapter import OpenAIAdapter

ADAPTER = OpenAIAdapter()

__all__ = ["ADAPTER", "OpenAIAdapter"]
