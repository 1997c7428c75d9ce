"""`/livez`, `/readyz`, `/startupz` for orchestrators: answered without Django or a query.

Liveness asks only whether this process still answers; readiness whether it can serve; the
body of `/readyz` names what is degraded.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.exchange import Receive, Scope, Send
from gateway.live import Live
from lib.ids import uuid7
from usage.counters.claims import Counters


class Probes:
    paths = frozenset({"/livez", "/readyz", "/startupz"})

    def __init__(self, live: Live, counters: Counters | None = None) -> None:
        self._live = live
        self._counters = counters
        self._draining = False

    def drain(self) -> None:
        """The end is near: not ready any more, though what comes all the same is served."""
        self._draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, body = 200, {"status": "ok"}
        if scope["path"] != "/livez":
            status, body = self._readiness()
        await _answer(send, status, body)

    def _readiness(self) -> tuple[int, dict[str, Any]]:
        if self._draining:
            return 503, {"status": "draining"}
        checks = {
            "database": "ok" if self._live.healthy else "away",
            "snapshot": "ok" if self._live.loaded else "not loaded",
        }
        degraded = [name for name, state in checks.items() if state != "ok"]
        if degraded:
            return 503, {"status": "down", "degraded": degraded, "checks": checks}
        if self._counters is not None and not self._counters.ready:
            checks["counters"] = "away"  # only hard quotas need them
            return 200, {"status": "degraded", "degraded": ["counters"], "checks": checks}
        return 200, {"status": "ok", "checks": checks | {"counters": "ok"}}


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    content = orjson.dumps(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(content)).encode()),
        (b"x-request-id", uuid7().encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
