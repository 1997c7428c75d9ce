"""Does a sick provider slow the healthy ones down? One gateway worker, one run, ratios.

Half of the calls, at a steady rate, go to a healthy provider and are measured; the other half
go to its neighbour: a healthy one, one that is down, or one that never answers, each with its
breaker as it comes and with none. Healthy ones answer after 20 ms, sooner than any real one: of a
longer time what is added would be a smaller part. Phases alternate, so that a drift of the machine falls on all.

    ENV_FILE=tests/test.env PYTHONPATH=.:platform .venv/bin/python tests/bench/neighbours.py
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from run import free_port, gateway, prepare, upstream

HEALTHY = "well"
ANSWERS_AFTER_MS = 20
NEIGHBOURS = {
    "healthy": "Another that is well",
    "down": "Down",
    "silent": "Never answers, for 1 s each",
    "down-kept": "Down, and no breaker",
    "silent-kept": "Never answers, and no breaker",
}
WARM_SECONDS = 0.5  # of each phase, which count for nothing
NEVER_OPENS = (
    "{consecutive_failures: 1000000, minimum_calls: 1000000, window: {type: time, seconds: 1}}"
)

_PROVIDER = """
  - slug: {slug}
    adapter: openai
    base_url: {url}
    allow_private_network: true
    credentials: [{{name: main, secret: sk-bench-0123456789abcdef}}]
    breaker: {breaker}
    models: [{{id: bench-model, context: 128000, max_output: 4096,
              input_usd_per_million: "1", output_usd_per_million: "2"}}]
"""
_ROUTE = """
  - alias: to-{slug}
    operation: chat.completions
    targets: [{{provider: {slug}, model: bench-model}}]
    timeouts: {{connect_ms: 1000, first_byte_ms: 1000}}
"""
_REST = """
plans: [{slug: bench, rate_limits: []}]
tenants:
  - slug: bench
    plan: bench
    projects: [{slug: default}]
    quotas: [{scope: tenant, metric: requests, window: day, limit: 1000000000}]
    keys: [{name: bench, mode: live, scopes: ["*"]}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of all phases")
    parser.add_argument("--seconds", type=float, default=3, help="seconds a phase")
    parser.add_argument("--rate", type=int, default=100, help="calls a second to each of the two")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        silent = free_port()
        text = _configuration(
            stack.enter_context(upstream(after_ms=ANSWERS_AFTER_MS)),
            silent=silent,
            down=free_port(),
        )
        environment, key = prepare(folder, text)
        server = stack.enter_context(gateway(environment, folder))
        bench = Bench(server.url, key, arguments.rate, arguments.seconds)
        asyncio.run(bench.run(arguments.rounds, silent))
    bench.report()


def _configuration(healthy: str, *, silent: int, down: int) -> str:
    def place(slug: str) -> str:
        ports = {"down": down, "silent": silent}
        port = ports.get(slug.removesuffix("-kept"))
        return f"http://127.0.0.1:{port}/v1" if port else healthy

    def provider(slug: str) -> str:
        breaker = NEVER_OPENS if slug.endswith("-kept") else "{}"
        return _PROVIDER.format(slug=slug, url=place(slug), breaker=breaker)

    slugs = [HEALTHY, *NEIGHBOURS]
    routes = "".join(_ROUTE.format(slug=slug) for slug in slugs)
    return f"providers:{''.join(map(provider, slugs))}\nroutes:{routes}{_REST}"


@dataclass
class Bench:
    """`latencies`: by neighbour, of each phase the healthy provider's calls, in seconds."""

    url: str
    key: str
    rate: int
    seconds: float
    latencies: dict[str, list[list[float]]] = field(default_factory=dict)
    answers: dict[str, Counter[int]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)  # the healthy provider's: must be none

    async def run(self, rounds: int, silent: int) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            _never_answers(silent),
            aiohttp.ClientSession(connector=connector, headers=headers) as self._session,
        ):
            await self._phase("healthy")  # warms all
            self.latencies, self.answers, self.failed = {}, {}, Counter()
            for _ in range(rounds):
                for neighbour in NEIGHBOURS:
                    await self._phase(neighbour)

    async def _phase(self, neighbour: str) -> None:
        loop = asyncio.get_running_loop()
        taken: list[float] = []
        statuses = self.answers.setdefault(neighbour, Counter())
        healthy: Counter[int] = Counter()
        begun = loop.time()
        async with asyncio.TaskGroup() as calls:
            for number in range(int(self.rate * self.seconds)):
                due = begun + number / self.rate
                await asyncio.sleep(due - loop.time())
                measured = taken if due > begun + WARM_SECONDS else []
                calls.create_task(self._call(HEALTHY, measured, healthy))
                await asyncio.sleep(due + 0.5 / self.rate - loop.time())
                calls.create_task(self._call(neighbour, [], statuses))
        self.failed[neighbour] += healthy.total() - healthy[200]
        self.latencies.setdefault(neighbour, []).append(taken)

    async def _call(self, slug: str, taken: list[float], statuses: Counter[int]) -> None:
        body = {"model": f"to-{slug}", "messages": [{"role": "user", "content": "Say hello."}]}
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with self._session.post(self.url, json=body) as answer:
            await answer.read()
        taken.append(loop.time() - begun)
        statuses[answer.status] += 1

    def report(self) -> None:
        """Medians over the rounds; the ratios are to the healthy neighbour's."""
        print(
            f"{'neighbour':<32}{'p50 ms':>8}{'p99 ms':>8}{'p50 ×':>8}{'p99 ×':>8}{'failed':>8}  it answered"
        )
        usual = self._percentiles("healthy")
        for slug, name in NEIGHBOURS.items():
            p50, p99 = self._percentiles(slug)
            answers = " ".join(f"{n}×{status}" for status, n in self.answers[slug].most_common())
            print(
                f"{name:<32}{p50 * 1000:>8.2f}{p99 * 1000:>8.2f}"
                f"{p50 / usual[0]:>8.2f}{p99 / usual[1]:>8.2f}"
                f"{self.failed[slug]:>8}  {answers}"
            )

    def _percentiles(self, neighbour: str) -> tuple[float, float]:
        cuts = [statistics.quantiles(taken, n=100) for taken in self.latencies[neighbour]]
        return statistics.median(c[49] for c in cuts), statistics.median(c[98] for c in cuts)


@asynccontextmanager
async def _never_answers(port: int) -> AsyncIterator[None]:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while await reader.read(65536):
                pass
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", port):
        yield


if __name__ == "__main__":
    main()
