"""The surface that Anthropic's clients speak."""

from __future__ import annotations

from providers.surfaces.messages.surface import COUNT_TOKENS, MESSAGES

__all__ = ["COUNT_TOKENS", "MESSAGES"]
