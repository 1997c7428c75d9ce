"""System checks of our own (`manage.py check`)."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, register

from config.environment import ROOT


@register()
def platform_is_no_package(**_: Any) -> list[CheckMessage]:
    """`platform/__init__.py` would shadow the standard library's module."""
    if (ROOT / "platform" / "__init__.py").exists():
        return [Error("platform/__init__.py exists", hint="Remove it.", id="patchbay.E001")]
    return []
