"""Amazon Bedrock's Converse API as one of our dialects."""

from __future__ import annotations

from providers.adapters.bedrock.adapter import BedrockAdapter

ADAPTER = BedrockAdapter()

__all__ = ["ADAPTER", "BedrockAdapter"]
