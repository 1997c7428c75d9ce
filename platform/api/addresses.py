"""The caller's address as Django's side sees it; the data path asks the same function."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from lib import addresses


def client_address(request: HttpRequest | Request) -> str:
    """The client behind exactly TRUSTED_PROXY_HOPS proxies."""
    meta: dict[str, Any] = request.META
    forwarded = meta.get("HTTP_X_FORWARDED_FOR")
    return addresses.client_address(
        meta.get("REMOTE_ADDR") or "",
        [] if forwarded is None else [forwarded],
        settings.ENV.TRUSTED_PROXY_HOPS,
    )
