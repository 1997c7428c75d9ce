"""Django's pages are there for who asks, and cost a gateway nothing until then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from config.pages import Pages

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("rest_framework.views", "redis", "psycopg", "unfold.admin", "config.urls")


def test_a_gateway_starts_without_what_only_pages_need() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, config.asgi; print(*sys.modules)"],
        cwd=ROOT,
        env={"PYTHONPATH": ".:platform", "ENV_FILE": "tests/test.env"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "gateway.app" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_all_who_ask_at_first_are_answered_by_the_same_pages() -> None:
    async def ask(pages: Pages, path: str) -> int:
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "headers": [(b"host", b"localhost")],
            "query_string": b"",
        }
        asked, statuses = iter([{"type": "http.request", "body": b""}]), []

        async def receive() -> dict[str, Any]:
            return next(asked, None) or await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            statuses.append(message.get("status", 0))

        await pages(scope, receive, send)
        return statuses[0]

    async def all_at_once() -> list[int]:
        pages = Pages()
        leaves = asyncio.create_task(ask(pages, "/docs"))  # its going away stops no other
        others = [asyncio.create_task(ask(pages, path)) for path in ("/docs", "/nowhere") * 4]
        await asyncio.sleep(0)
        leaves.cancel()
        return await asyncio.gather(*others)

    assert asyncio.run(all_at_once()) == [200, 404] * 4
