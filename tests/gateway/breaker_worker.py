"""One of several worker processes that share a provider's breaker (test_shared_breakers.py).

`python -m tests.gateway.breaker_worker <store url> <callers> <permitted> <result> <journal>`: told
to go, lets its callers try as fast as they can until the breaker is CLOSED or TRY_SECONDS are over,
and writes a line for each probe that went: its beginning and end by the machine's clock.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from gateway.shared_breakers import SharedBreakers
from lib.clock import SystemClock
from providers.breaker import State
from providers.breaker_policy import Policy
from providers.breakers import Breakers
from providers.call import Outcome, Verdict

PROBE_SECONDS = 0.15
OPEN_SECONDS = 1.0
TRY_SECONDS = 3.5


async def work(url: str, callers: int, policy: Policy, outcome: Outcome) -> list[str]:
    shared = SharedBreakers(url, timeout=2.0)
    breakers = Breakers(SystemClock(), shared)
    await shared.start()
    breaker = breakers.of("lab", policy)
    lines: list[str] = []

    async def caller(until: float) -> None:
        while time.monotonic() < until:
            permits = await breakers.admit([breaker], 30.0)
            if breaker.state is State.CLOSED:
                return
            if permits is None:
                await asyncio.sleep(0.003)
                continue
            began = time.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
            lines.append(f"{began} {time.monotonic()}")
            permits.record(outcome)

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await shared.look()
    until = time.monotonic() + TRY_SECONDS
    await asyncio.gather(*(caller(until) for _ in range(callers)))
    await shared.close()
    print(breaker.state, flush=True)
    return lines


if __name__ == "__main__":
    url, callers, permitted, result, journal = sys.argv[1:]
    policy = Policy(open_seconds=OPEN_SECONDS, permitted_probes=int(permitted))
    verdict = Verdict.OK if result == "ok" else Verdict.UNAVAILABLE
    lines = asyncio.run(work(url, int(callers), policy, Outcome(verdict)))
    Path(journal).write_text("\n".join(lines))
