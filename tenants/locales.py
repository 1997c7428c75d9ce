"""By whose customs figures are written: the languages that Django has formats of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import django.conf.locale
from django.conf import global_settings
from django.core.exceptions import ValidationError
from django.utils.translation import to_locale

DEFAULT = "en"


@cache
def locales() -> Mapping[str, str]:
    """Codes such as `de` or `pt-br`, and what they are called."""
    folder = Path(next(iter(django.conf.locale.__path__)))
    return {
        code: str(name)
        for code, name in global_settings.LANGUAGES
        if (folder / to_locale(code) / "formats.py").exists()
    }


def validate_locale(code: str) -> None:
    if code not in locales():
        raise ValidationError(f"{code!r} is no locale that figures are written by, such as de.")
