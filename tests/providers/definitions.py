"""A definition to make versions of, and a provider on the loopback that answers as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from providers.definitions import template
from providers.models import Credential, Provider

GOOD = {"base": "EUR", "date": "2026-01-15", "rates": {"USD": 1.0823}}
DRIFTED = {"base": "EUR", "date": "2026-01-15", "rates": [1.0823]}


def rates(slug: str = "my-rates", base_url: str = "", **changes: str) -> tuple[str, list[Any]]:
    """The template's document and examples; `changes` are texts to replace, by what they are
    called here: name, path, symbols, verification."""
    document, examples = template("rest", slug)
    if base_url:
        document = document.replace("https://api.example.com/v1  #", f"{base_url}  #")
    document = document.replace("name: my-rates", f"name: {changes.get('name', slug)}")
    return document.replace("path: rates", f"path: {changes.get('path', 'rates')}"), examples


def keyed(document: str) -> str:
    """The same for a provider that takes a secret in its query."""
    return document.replace(
        "auth: {type: none}",
        "auth: {type: query, name: apikey}\ncredential: {env: MY_RATES_API_KEY}",
    )


@dataclass
class Upstream:
    """What it answers next, and what it was asked: (method and URL, headers)."""

    url: str = ""
    status: int = 200
    body: Any = field(default_factory=lambda: GOOD)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def replying() -> Iterator[Upstream]:
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            upstream.asked.append((f"{self.command} {self.path}", headers))
            body = upstream.body if isinstance(upstream.body, bytes) else json.dumps(
                upstream.body
            ).encode()  # fmt: skip
            self.send_response(upstream.status)
            for name, value in upstream.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    upstream.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def house_secret(provider: Provider, secret: str, name: str = "main") -> Credential:
    row = Credential(provider=provider, name=name)
    row.set_secret(secret)
    row.save()
    return row
