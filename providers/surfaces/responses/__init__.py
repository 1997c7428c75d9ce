"""The surface of OpenAI's newer clients."""

from __future__ import annotations

from providers.surfaces.responses.surface import RESPONSES

__all__ = ["RESPONSES"]
