"""Django's side of the house: the management API, the documentation, the admin's pages."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

from gateway.exchange import Receive, Scope, Send


class Pages:
    """An ASGI application that is made for the first who asks for a page. Few callers ever do,
    and without its middleware, views and serializers a gateway is ready in half the time."""

    def __init__(self) -> None:
        self._making: asyncio.Task[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(_made))  # calls go on meanwhile
        application = await asyncio.shield(self._making)  # others wait for it too
        await application(scope, receive, send)


def _made() -> ASGIHandler:
    import_module(settings.ROOT_URLCONF)
    return ASGIHandler()
