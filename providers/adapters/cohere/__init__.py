"""Cohere's API, version 2."""

from providers.adapters.cohere.adapter import CohereAdapter

ADAPTER = CohereAdapter()

__all__ = ["ADAPTER", "CohereAdapter"]
