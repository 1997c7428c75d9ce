"""Opens and seals provider secrets with the keys that the environment holds."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from lib.sealing import Ring


@lru_cache(maxsize=4)
def _ring(keys: tuple[str, ...]) -> Ring:
    return Ring(list(keys))


def ring() -> Ring:
    return _ring(tuple(settings.SEALING_KEYS))


def seal_secret(secret: str, owner: str) -> str:
    return ring().seal(secret, owner)


def open_secret(sealed: str, owner: str) -> str:
    """Raises lib.sealing.SealBroken."""
    return ring().open(sealed, owner)
