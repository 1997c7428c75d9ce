"""Numbers as the tenant's people write them: 1,234.5, 1.234,5 or 1 234,5.

Only numbers follow the tenant's locale; texts are in English, moments as ISO 8601 has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal

from django.utils.formats import get_format
from django.utils.numberformat import format as written

from tenants.locales import DEFAULT

_LOCALE: ContextVar[str] = ContextVar("locale", default=DEFAULT)


@contextmanager
def by_the_customs_of(locale: str) -> Iterator[None]:
    token = _LOCALE.set(locale)
    try:
        yield
    finally:
        _LOCALE.reset(token)


def number(value: Decimal | float, places: int | None = None) -> str:
    """With so many decimals; None leaves those that it has."""
    point, group, comma = (
        get_format(name, _LOCALE.get(), use_l10n=True)
        for name in ("DECIMAL_SEPARATOR", "NUMBER_GROUPING", "THOUSAND_SEPARATOR")
    )
    return written(value, point, places, group, comma, force_grouping=True, use_l10n=True)
