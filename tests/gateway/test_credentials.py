"""Credentials that a real provider refuses or limits, over real sockets: nobody's call fails for
it, no gateway uses it again, and staff see why."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from tests.patience import eventually
from tests.services.system import System

GOOD, REFUSED, LIMITED = "sk-good-0123456789", "sk-refused-0123456789", "sk-limited-0123456789"
CONFIGURATION = """
providers:
  - slug: keyed
    adapter: openai
    base_url: "{place}/v1"
    allow_private_network: true
    credentials:
      - {{name: refused, secret: sk-refused-0123456789}}
      - {{name: limited, secret: sk-limited-0123456789}}
      - {{name: good, secret: sk-good-0123456789}}
    models: [{{id: gpt-x, context: 128000, max_output: 4096,
              input_usd_per_million: "1", output_usd_per_million: "2"}}]
"""
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-x",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
ANSWERS: dict[str, tuple[int, dict[str, str], dict[str, Any]]] = {
    GOOD: (200, {}, ANSWER),
    REFUSED: (401, {}, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}),
    LIMITED: (429, {"Retry-After": "3600"}, {"error": {"message": "Rate limit reached"}}),
}


class Provider:
    """Answers by the credential; `asked` is how often each came."""

    def __init__(self) -> None:
        asked: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                credential = self.headers["authorization"].removeprefix("Bearer ")
                asked[credential] += 1
                status, headers, document = ANSWERS[credential]
                body = json.dumps(document).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.asked = asked
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.place = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


def ask(system: System) -> int:
    answer = httpx2.post(
        f"{system.url}/api/v1/chat/completions",
        json={"model": "keyed/gpt-x", "messages": [{"role": "user", "content": "hello"}]},
        headers={"X-API-Key": system.keys["acme/live"]},
        timeout=10,
    )
    return answer.status_code


def drained(system: System) -> dict[str, str]:
    rows = system.rows(
        "SELECT name, drained_reason FROM providers_credential WHERE drained_at IS NOT NULL"
    )
    return {row["name"]: row["drained_reason"] for row in rows}


def test_what_a_provider_refuses_is_drained_and_what_it_limits_rests(
    new_system: Callable[..., System], provider: Provider
) -> None:
    system = new_system(CONFIGURATION.format(place=provider.place))
    assert [ask(system) for _ in range(9)] == [200] * 9
    assert provider.asked == {GOOD: 9, REFUSED: 1, LIMITED: 1}
    reasons = eventually(lambda: drained(system))
    assert list(reasons) == ["refused"]
    assert "401" in reasons["refused"]
    assert "sk-" not in reasons["refused"]
    system.gateway.stop()
    system.start_gateway()
    assert [ask(system) for _ in range(4)] == [200] * 4
    assert provider.asked[REFUSED] == 1  # for good, whoever is started anew
    assert provider.asked[GOOD] == 13
