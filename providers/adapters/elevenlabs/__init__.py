"""ElevenLabs' API, version 1: speech and transcription."""

from __future__ import annotations

from providers.adapters.elevenlabs.adapter import ElevenLabsAdapter

ADAPTER = ElevenLabsAdapter()
