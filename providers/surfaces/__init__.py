"""Other dialects in which a client may make a chat call.

Inside, a call is OpenAI's chat completion; a surface translates at the client's edge, and an
adapter at the provider's. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from providers.surfaces.messages import COUNT_TOKENS, MESSAGES
from providers.surfaces.responses import RESPONSES
from providers.surfaces.surface import Form, Surface

_FORMS = (RESPONSES, MESSAGES, COUNT_TOKENS)
FORMS: Mapping[str, Form] = MappingProxyType({form.name: form for form in _FORMS})
"""Every way in besides chat's own, by name."""

__all__ = ["FORMS", "Form", "Surface"]
