"""`manage.py run` in a folder of its own: from nothing to an answer, again, and to its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from api.configuration.demo import read_secrets
from config.welcome import welcome
from tests.services.process import accepts, free_port, until

ROOT = Path(__file__).parents[2]
PARTS = ("manage.py", "platform", "providers", "tenants", "accounts", ".env.dev")
SAYS = "Ctrl-C stops it."


class Installation:
    """A folder like a fresh clone that was set up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "output.txt"
        for name in PARTS:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self.environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ".:platform"}
        self.environment["PORT"] = str(self.port)
        self.python("-m", "config.first_start").wait()

    def python(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self.environment | settings,
                stdout=log,
                stderr=log,
            )

    def run(self, **settings: str) -> subprocess.Popen[bytes]:
        """`manage.py run`, ready."""
        process = self.python("manage.py", "run", **settings)
        until(lambda: SAYS in self.said, alive=lambda: process.poll() is None, log=self.log)
        return process

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def secrets(self) -> dict[str, str]:
        return read_secrets(self.folder / "var/demo.env")

    def ask(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.secrets["PATCHBAY_URL"] + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.secrets['PATCHBAY_TEST_KEY']}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("fresh-clone"))


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(timeout=30)


def refused(process: subprocess.Popen[bytes], installation: Installation) -> str:
    assert process.wait(timeout=30) == 1
    return installation.said


def test_from_nothing_to_an_answer(installation: Installation) -> None:
    process = installation.run()
    try:
        assert installation.secrets["PATCHBAY_URL"] == f"http://127.0.0.1:{installation.port}"
        chat = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}
        answer = installation.ask("/api/v1/chat/completions", chat)
        assert answer["choices"][0]["message"]["content"]
        quote = installation.ask("/api/v1/finance/quote?symbol=AAPL")
        assert quote["data"]["symbol"] == "AAPL"
        assert (installation.folder / "var/sandbox.jsonl").stat().st_size > 0
        for name in (".env", "var/demo.env"):
            assert stat.S_IMODE((installation.folder / name).stat().st_mode) == 0o600
        assert installation.said.count("curl ") == 3
        second = installation.folder / "second.txt"
        installation.log, first = second, installation.log
        assert "runs from this folder already" in refused(
            installation.python("manage.py", "run", PORT=str(free_port())), installation
        )
        installation.log = first
    finally:
        code = end(process)
    assert code == 0
    assert not accepts(installation.port)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the children in /proc")
def test_a_second_start_keeps_everything_and_ends_when_a_child_dies(
    installation: Installation,
) -> None:
    before = installation.secrets
    provider_key = "sk-" + "nobodys0" * 4
    process = installation.run(OPENAI_API_KEY=provider_key)
    try:
        assert installation.secrets == before
        assert "openai (from OPENAI_API_KEY)" in installation.said
        assert before["PATCHBAY_LIVE_KEY"] in installation.said
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        [gateway] = [
            pid for pid in children if b"uvicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(int(gateway), signal.SIGKILL)
        assert process.wait(timeout=30) == 1
    finally:
        process.poll() is None and end(process)
    assert "The gateway ended with code -9" in installation.said
    assert provider_key not in installation.said
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_a_busy_port_is_told_with_what_to_do(installation: Installation) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", installation.port))
        other.listen()
        told = refused(installation.python("manage.py", "run"), installation)
    assert f"Port {installation.port} cannot be used" in told
    assert f"PORT={installation.port + 1} make run" in told
    assert "Traceback" not in told


def test_a_signal_during_the_start_leaves_nothing_behind(installation: Installation) -> None:
    process = installation.python("manage.py", "run")
    port_file = installation.folder / "var/sandbox.port"
    port_file.unlink(missing_ok=True)
    began = time.monotonic()
    until(lambda: port_file.exists() or process.poll() is not None)
    assert end(process, signal.SIGINT) in {0, -signal.SIGINT}
    assert time.monotonic() - began < 30
    sandbox = int(port_file.read_text())
    until(lambda: not accepts(sandbox) and not accepts(installation.port))


def test_the_welcome_names_what_to_try_and_no_password_that_is_not_there() -> None:
    secrets = {
        "PATCHBAY_URL": "http://x",
        "PATCHBAY_TEST_KEY": "T",
        "PATCHBAY_LIVE_KEY": "L",
        "ADMIN_USER": "A",
        "ADMIN_PASSWORD": "P",
        "TENANT_USER": "O",
        "TENANT_PASSWORD": "Q",
    }
    text = welcome(secrets, [], 1.25)
    assert text.count("Bearer T") == 3
    assert "OPENAI_API_KEY" in text and "The live key L" in text
    assert "http://x/admin/  as A, password P" in text
    assert "http://x/app/  as O, password Q" in text
