"""Django's cache: in Redis or Valkey where there is one, else in this one process."""

from __future__ import annotations

from typing import Any

TIMEOUT = 0.25  # seconds a page waits for a store that is away, before it does without


def cache(redis_url: str) -> dict[str, Any]:
    if not redis_url:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": redis_url.replace("valkey://", "redis://", 1),  # it knows only the older name
        "KEY_PREFIX": "patchbay:django",
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": TIMEOUT,
            "SOCKET_TIMEOUT": TIMEOUT,
            "IGNORE_EXCEPTIONS": True,
        },
    }
