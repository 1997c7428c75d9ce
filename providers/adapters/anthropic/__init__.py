"""Anthropic's Messages API as one of our dialects."""

from __future__ import annotations

from providers.adapters.anthropic.adapter import AnthropicAdapter

ADAPTER = AnthropicAdapter()

__all__ = ["ADAPTER", "AnthropicAdapter"]
