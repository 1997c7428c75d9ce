"""Google's Gemini API."""

from providers.adapters.gemini.adapter import GeminiAdapter

ADAPTER = GeminiAdapter()

__all__ = ["ADAPTER", "GeminiAdapter"]
