"""Runs the sandbox over real sockets: in a thread for tests and benchmarks, or as a process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from providers.sandbox.app import Sandbox
from providers.sandbox.journal import Journal
from providers.sandbox.wire import TRANSPORT

HOST = "127.0.0.1"

# Streams that never end must not keep a stopping server alive.
_GRACE_SECONDS = 2
# Longer than clients keep idle connections: it must not be the server that closes first, or a
# call now and then would fail for no fault that anybody scripted.
_KEEP_ALIVE_SECONDS = 75


class _Protocol(HttpToolsProtocol):
    """Shows each request its transport, so that faults can break the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are `run`'s business: uvicorn would raise them again after a good end."""
        yield


def _make_server(app: Sandbox) -> _Server:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=2048,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return _Server(config)


def listen(port: int, host: str = HOST) -> socket.socket:
    """A listening socket, on the loopback unless said otherwise; port 0 takes any free one."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Connections inherit it. Without it head and body, two small writes, are 40 ms apart: the
    # kernel holds the second one back until the client has acknowledged the first.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    # Listening already, so that whoever is told the port can connect at once.
    sock.listen(2048)
    return sock


def write_port(path: Path | None, sock: socket.socket) -> None:
    """Tells the port by renaming a finished file into place: a reader never sees half of it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".new")
        draft.write_text(f"{sock.getsockname()[1]}\n")
        draft.replace(path)


def run(
    *, host: str = HOST, port: int, port_file: Path | None, journal: Path | None, fsync: bool
) -> None:
    """Serves until SIGTERM or SIGINT, then ends the running calls and returns."""
    sock = listen(port, host)
    book = Journal(journal, fsync=fsync)
    server = _make_server(Sandbox(book))

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        write_port(port_file, sock)
        await server.serve(sockets=[sock])

    uvloop.run(serve())
    book.close()


class SandboxServer:
    """A sandbox in a background thread, on a free port. Also a context manager."""

    def __init__(self, journal: Path | None = None, *, fsync: bool = True) -> None:
        self._journal = Journal(journal, fsync=fsync)
        self._server = _make_server(Sandbox(self._journal))
        self._socket = listen(0)
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)

    @property
    def port(self) -> int:
        return int(self._port)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> SandboxServer:
        self._port = self._socket.getsockname()[1]
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._journal.close()

    def control(self, method: str, path: str, document: Any = None) -> Any:
        """One request to the control API (`faults/openai`, `calls` …). Raises ValueError."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        with contextlib.closing(connection):
            body = None if document is None else json.dumps(document)
            connection.request(method, f"/_sandbox/{path}", body)
            response = connection.getresponse()
            told = json.loads(response.read())
        if response.status != 200:
            raise ValueError(told["error"])
        return told

    def __enter__(self) -> SandboxServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        uvloop.run(self._server.serve(sockets=[self._socket]))
