"""The yardstick: an ASGI app that forwards a POST with aiohttp and does nothing else."""

from __future__ import annotations

import os
from typing import Any

import aiohttp

UPSTREAM = os.environ["BENCH_UPSTREAM"]
_session: aiohttp.ClientSession | None = None


def _client() -> aiohttp.ClientSession:
    global _session  # noqa: PLW0603 - made on the loop it is used on
    if _session is None:
        connector = aiohttp.TCPConnector(limit=0)
        _session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
    return _session


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {"content-type": "application/json", "authorization": "Bearer sk-bench"}
    async with _client().post(UPSTREAM, data=body, headers=headers) as response:
        status = response.status
        if b'"stream":true' in body:
            head = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": status, "headers": head})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        answer = await response.read()
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": answer})
