"""A worker process of its own for test_processes.py: as many equal calls as it is told, when it
is told; every question to the provider is a line in a journal."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from lib.clock import SystemClock
from tests.cache.serving import Provider, ask, running, serve


async def work(url: str, calls: int, takes: float, journal: Path) -> None:
    def asked() -> bytes:
        with journal.open("a") as lines:
            lines.write(f"{os.getpid()}\n")
        return b"%d" % os.getpid()

    provider = Provider(SystemClock(), asked)
    provider.takes = takes
    # A busy machine makes the store late, and then each asks for itself: that is another test's.
    async with running(1, url, patience=5.0) as (cache,):
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        answers = await asyncio.gather(*[serve(cache, ask(cache), provider) for _ in range(calls)])
        print(" ".join(sorted({answer.decode() for answer in answers})), flush=True)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])))
