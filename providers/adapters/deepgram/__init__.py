"""Deepgram's API, version 1: transcription of recordings."""

from __future__ import annotations

from providers.adapters.deepgram.adapter import DeepgramAdapter

ADAPTER = DeepgramAdapter()
