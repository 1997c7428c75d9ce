"""The sandbox as a process, and in its mode for benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from providers.sandbox import speed

ROOT = Path(__file__).resolve().parents[3]
CHAT = "/openai/v1/chat/completions"
ASK = {"model": "gpt-x", "messages": [{"role": "user", "content": "one two three"}]}


@contextmanager
def started(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its URL. Without PYTHONPATH: the module must find what it needs itself."""
    port_file = folder / "var" / "port"
    command = [sys.executable, "-m", "providers.sandbox", "--port-file", str(port_file), *options]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(command, cwd=ROOT, env=bare)
    try:
        deadline = time.monotonic() + 10
        while not port_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process, f"http://127.0.0.1:{port_file.read_text().strip()}"
    finally:
        process.kill()
        process.wait()


def test_it_serves_and_ends_gracefully(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with started(tmp_path, "--journal", str(journal)) as (process, url):
        headers = {"authorization": "Bearer x"}
        assert httpx2.post(url + CHAT, json=ASK, headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert json.loads(journal.read_text())["finished"] is True


def test_a_stream_that_never_ends_does_not_hold_up_the_end(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    headers = {"authorization": "Bearer x", "x-sandbox-fault": "endless;pace_ms=5"}
    with started(tmp_path, "--journal", str(journal), "--no-fsync") as (process, url):
        body = {**ASK, "stream": True}
        with httpx2.stream("POST", url + CHAT, json=body, headers=headers) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            process.send_signal(signal.SIGTERM)
            assert process.wait(8) == 0
    line = json.loads(journal.read_text())
    assert (line["finished"], line["hung_up"]) == (False, False)
    assert line["output_tokens"] > 0


def test_it_knows_no_django() -> None:
    code = (
        "import sys; sys.path.insert(0, 'platform'); import providers.sandbox.server;"
        "import providers.sandbox.examples as e; e.data_provider('frankfurter');"
        "print([m for m in sys.modules if m.split('.')[0] == 'django' or m == 'providers.models'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(tmp_path_factory.mktemp("speed"), "--speed", "--port", "0") as (process, url):
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_speed_answers_500_bytes_that_are_a_completion(fast: str) -> None:
    answer = httpx2.post(fast + CHAT, json=ASK)
    assert len(answer.content) == speed.BODY_BYTES == 500
    with openai.OpenAI(base_url=f"{fast}/v1", api_key="x", max_retries=0) as client:
        made = client.chat.completions.create(**ASK)
        assert made.usage.total_tokens == 28
        chunks = list(client.chat.completions.create(**ASK, stream=True))
    assert len(chunks) == 19
    assert chunks[-1].usage.completion_tokens == 16
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) == 16


class Transport:
    """Collects what the protocol writes."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def wanted(body: bytes) -> bytes:
    return b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_speed_takes_requests_however_they_are_cut(step: int) -> None:
    asked = (
        wanted(b"{}") + wanted(b'{"stream": true}') + b"GET / HTTP/1.1\r\n\r\n" + wanted(b"x" * 99)
    )
    transport = Transport()
    protocol = speed.Speed()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    for at in range(0, len(asked), step):
        protocol.data_received(asked[at : at + step])
    assert transport.written == speed.WHOLE + speed.STREAM + speed.WHOLE + speed.WHOLE
