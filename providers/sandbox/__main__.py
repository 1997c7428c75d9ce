"""The sandbox as a process: `python -m providers.sandbox --port 0 --port-file FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# As in manage.py: `platform/` is a plain folder of packages that stands on sys.path itself.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m providers.sandbox", description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 in a container, which has a network of its own"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--port-file", type=Path, help="gets the port when the server listens")
    parser.add_argument("--journal", type=Path, help="gets a JSON line for every call")
    parser.add_argument("--no-fsync", action="store_true", help="do not force lines to the disk")
    parser.add_argument(
        "--speed", action="store_true", help="one ready-made answer, for benchmarks"
    )
    parser.add_argument("--after-ms", type=int, default=0, help="with --speed: so long after")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    if arguments.speed:
        from providers.sandbox.speed import run_speed

        after = arguments.after_ms / 1000
        run_speed(port=arguments.port, port_file=arguments.port_file, after=after)
        return
    from providers.sandbox.server import run

    run(
        host=arguments.host,
        port=arguments.port,
        port_file=arguments.port_file,
        journal=arguments.journal,
        fsync=not arguments.no_fsync,
    )


if __name__ == "__main__":
    main()
