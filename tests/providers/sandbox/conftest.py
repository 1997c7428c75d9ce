"""One sandbox for all tests of it, cleared before each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import orjson
import pytest

from providers.sandbox.server import SandboxServer

if TYPE_CHECKING:
    import anthropic


@pytest.fixture(scope="session")
def _journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox") / "sandbox.journal"


@pytest.fixture(scope="session")
def _server(_journal: Path) -> Iterator[SandboxServer]:
    with SandboxServer(_journal, fsync=False) as server:
        yield server


@pytest.fixture
def sandbox(_server: SandboxServer) -> SandboxServer:
    _server.control("POST", "reset")
    return _server


@pytest.fixture
def journal(_journal: Path, sandbox: SandboxServer) -> Callable[[str], list[dict[str, Any]]]:
    """The lines of one request id, once the first is written."""

    def lines(request_id: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            # Only whole lines: the last one may be being written at this instant.
            whole = _journal.read_bytes().rpartition(b"\n")[0]
            found = [orjson.loads(line) for line in whole.splitlines()]
            if mine := [line for line in found if line["request_id"] == request_id]:
                return mine
            time.sleep(0.005)
        raise AssertionError("The call never ended.")

    return lines


@pytest.fixture
def http(sandbox: SandboxServer) -> Iterator[httpx2.Client]:
    headers = {
        "authorization": "Bearer sk-test",
        "x-api-key": "sk-test",
        "x-goog-api-key": "sk-test",
    }
    with httpx2.Client(base_url=sandbox.url, headers=headers, timeout=10, verify=False) as client:
        yield client


@pytest.fixture
def openai_client(sandbox: SandboxServer) -> Iterator[openai.OpenAI]:
    base_url = f"{sandbox.url}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(sandbox: SandboxServer) -> Iterator[anthropic.Anthropic]:
    import anthropic  # takes a second, which only the process pays that runs such a test

    base_url = f"{sandbox.url}/anthropic"
    with anthropic.Anthropic(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client
