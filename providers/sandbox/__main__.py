"""`python -m providers.sandbox`: the sandbox as a process of its own, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

import uvloop

from providers.sandbox.speed import SpeedProtocol


def main() -> None:
    arguments = _arguments()
    if arguments.speed:
        uvloop.run(_serve_speed(arguments.host, arguments.port, arguments.port_file))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m providers.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--port-file", type=Path, help="the port is written here when ready")
    parser.add_argument("--speed", action="store_true", help="one fixed answer, for benchmarks")
    return parser.parse_args()


async def _serve_speed(host: str, port: int, port_file: Path | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(SpeedProtocol, host, port, backlog=2048)
    _announce(server.sockets[0].getsockname()[1], port_file)
    await stop.wait()
    server.close()


def _announce(port: int, port_file: Path | None) -> None:
    """Whole or not at all: a reader never sees half a number."""
    if port_file:
        draft = port_file.with_name(port_file.name + ".new")
        draft.write_text(f"{port}\n")
        os.replace(draft, port_file)


if __name__ == "__main__":
    main()
