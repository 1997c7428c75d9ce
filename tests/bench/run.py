"""`make bench`: Patchbay against a bare proxy on the same machine, in the same run.

One gateway worker is pinned to core 0; the upstream and wrk share core 1. Everything is on:
key check, rate limits, quotas, breaker, durable ledger, metrics, access log. Runs alternate (bare,
Patchbay, bare, …) so that a drift of the machine's speed falls on both; the medians count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"}

CONFIGURATION = """
providers:
  - slug: bench
    adapter: openai
    base_url: {upstream}
    allow_private_network: true
    credentials: [{{name: main, secret: sk-bench-0123456789abcdef}}]
    models: [{{id: bench-model, context: 128000, max_output: 4096,
              input_usd_per_million: "1", output_usd_per_million: "2"}}]
routes:
  - alias: bench-chat
    operation: chat.completions
    targets: [{{provider: bench, model: bench-model}}]
plans:
  - slug: bench
    rate_limits:
      - {{scope: ip, limit: 1000000000, per_seconds: 60}}
      - {{scope: key, limit: 1000000000, per_seconds: 60}}
      - {{scope: key, limit: 1000000000, per_seconds: 3600}}
tenants:
  - slug: bench
    plan: bench
    projects: [{{slug: default}}]
    quotas:
      - {{scope: tenant, metric: requests, window: day, limit: 1000000000}}
      - {{scope: tenant, metric: cost, window: month, limit_usd: "1000000"}}
    keys: [{{name: bench, mode: live, scopes: ["*"]}}]
"""
BODY = {"model": "bench-chat", "messages": [{"role": "user", "content": "Say hello, please."}]}


@dataclass(frozen=True)
class Figures:
    """One wrk run: requests a second, latency percentiles in milliseconds, and the server's
    own processor time a request in microseconds (which a busy neighbour does not blur)."""

    rate: float
    p50: float
    p99: float
    cpu: float


def main() -> None:
    arguments = _arguments()
    if shutil.which("wrk") is None:
        sys.exit("The benchmark drives load with wrk: `apt-get install wrk`, then again.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(upstream())
        databases = stack.enter_context(_stores(folder)) if arguments.stores else {}
        environment, key = prepare(folder, CONFIGURATION.format(upstream=url), databases)
        bare = stack.enter_context(_bare(url))
        ours = stack.enter_context(gateway(environment, folder))
        _report(_measure(arguments, _Scripts(folder, key), bare, ours))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--seconds", type=int, default=4, help="seconds a measurement")
    parser.add_argument(
        "--stores", action="store_true", help="with PostgreSQL and Valkey, both on core 1"
    )
    return parser.parse_args()


class _Scripts:
    """wrk's request scripts, one a workload."""

    def __init__(self, folder: Path, key: str) -> None:
        self.json = self._write(folder / "json.lua", key, BODY)
        self.stream = self._write(folder / "stream.lua", key, {**BODY, "stream": True})
        self.kept = self._write(folder / "kept.lua", key, {**BODY, "temperature": 0})

    @staticmethod
    def _write(path: Path, key: str, body: dict[str, object]) -> Path:
        path.write_text(
            'wrk.method = "POST"\n'
            f"wrk.body = [[{json.dumps(body, separators=(',', ':'))}]]\n"
            'wrk.headers["Content-Type"] = "application/json"\n'
            f'wrk.headers["Authorization"] = "Bearer {key}"\n'
        )
        return path


def _measure(
    arguments: argparse.Namespace, scripts: _Scripts, bare: Server, gateway: Server
) -> dict[str, dict[str, Figures]]:
    """Medians by workload and by who was measured."""
    workloads = {
        "JSON, 32 connections": (scripts.json, 32),
        "JSON, 1 connection": (scripts.json, 1),
        "SSE, 32 connections": (scripts.stream, 32),
        "hits, 32 connections": (scripts.kept, 32),
        "hits, 1 connection": (scripts.kept, 1),
    }
    results: dict[str, dict[str, Figures]] = {}
    for name, (script, connections) in workloads.items():
        runs: dict[str, list[Figures]] = {"bare proxy": [], "Patchbay": []}
        for server in (bare, gateway):
            _wrk(server, script, connections, 1)  # warm
        for number in range(arguments.rounds):
            print(f"  {name}: round {number + 1} of {arguments.rounds}", file=sys.stderr)
            runs["bare proxy"].append(_wrk(bare, script, connections, arguments.seconds))
            runs["Patchbay"].append(_wrk(gateway, script, connections, arguments.seconds))
        results[name] = {who: _median(figures) for who, figures in runs.items()}
    return results


def _median(figures: list[Figures]) -> Figures:
    return Figures(
        *(
            statistics.median(getattr(f, name) for f in figures)
            for name in ("rate", "p50", "p99", "cpu")
        )
    )


def _report(results: dict[str, dict[str, Figures]]) -> None:
    columns = ("bare/s", "ours/s", "ratio", "bare µs", "ours µs", "+p50 ms", "+p99 ms")
    print(f"{'workload':<22}" + "".join(f"{column:>9}" for column in columns))
    for name, by in results.items():
        bare, ours = by["bare proxy"], by["Patchbay"]
        print(
            f"{name:<22}{bare.rate:>9.0f}{ours.rate:>9.0f}{ours.rate / bare.rate:>9.2f}"
            f"{bare.cpu:>9.0f}{ours.cpu:>9.0f}"
            f"{ours.p50 - bare.p50:>9.2f}{ours.p99 - bare.p99:>9.2f}"
        )


@dataclass(frozen=True)
class Server:
    """A server under test: where it listens, and its process."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wrk(server: Server, script: Path, connections: int, seconds: int) -> Figures:
    """Raises SystemExit when an answer was not a 200, since its speed would mean nothing."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "-s", str(script), server.url]
    before = server.cpu_seconds()
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"the run had errors:\n{text}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found, text
    calls = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    cpu = (server.cpu_seconds() - before) / calls * 1e6
    return Figures(float(found[1]), _percentile(text, 50), _percentile(text, 99), cpu)


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", text)
    assert found, text
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


@contextmanager
def upstream(*, after_ms: int = 0) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "providers.sandbox", "--speed", "--port", str(port)]
    command += ["--after-ms", str(after_ms)]
    with _process(command, core=1, port=port, environment=ENVIRONMENT):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def _bare(upstream: str) -> Iterator[Server]:
    environment = {**ENVIRONMENT, "BENCH_UPSTREAM": f"{upstream}/chat/completions"}
    with _server("bare_proxy:application", "/", environment, http="httptools") as server:
        yield server


@contextmanager
def gateway(environment: dict[str, str], folder: Path) -> Iterator[Server]:
    path = "/api/v1/chat/completions"
    application, http = "config.asgi:application", "config.http:Protocol"
    with _server(application, path, environment, http=http, log=folder / "log") as server:
        yield server


@contextmanager
def _server(
    application: str,
    path: str,
    environment: dict[str, str],
    *,
    http: str,
    log: Path | None = None,
) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", application, "--app-dir", str(HERE)]
    command += ["--port", str(port), "--loop", "uvloop", "--http", http, "--no-server-header"]
    command += ["--no-access-log", "--no-proxy-headers", "--log-level", "warning"]
    with _process(command, core=0, port=port, environment=environment, log=log) as pid:
        yield Server(f"http://127.0.0.1:{port}{path}", pid)


@contextmanager
def _process(
    command: list[str],
    *,
    core: int,
    port: int,
    environment: dict[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[int]:
    out = log.open("wb") if log else None
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], env=environment, stdout=out, cwd=ROOT
    )
    try:
        _await_port(process, port)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        if out:
            out.close()


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"a server ended at once, with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port} after 20 s")


@contextmanager
def _stores(folder: Path) -> Iterator[dict[str, str]]:
    """As in production: what PostgreSQL commits is on the disk. Settings that lead to them."""
    from tests.services.postgres import DURABLE, Postgres
    from tests.services.valkey import Valkey

    for name in ("postgres", "valkey"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    postgres, valkey = Postgres(folder / "postgres", DURABLE), Valkey(folder / "valkey")
    postgres.create()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {1})
    try:
        postgres.start()
        valkey.start()
        os.sched_setaffinity(0, cores)
        name = postgres.create_database(name="bench")
        yield {"DATABASE_URL": postgres.url(name), "REDIS_URL": valkey.url}
    finally:
        valkey.stop()
        postgres.stop()


def prepare(
    folder: Path, configuration: str, stores: Mapping[str, str] | None = None
) -> tuple[dict[str, str], str]:
    """A new database with what is configured; its environment, and the key of `bench/bench`."""
    environment = {
        **ENVIRONMENT,
        "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3",
        "REDIS_URL": "",
        "LOG_LEVEL": "info",
        **(stores or {}),
    }
    file, keys = folder / "bench.yaml", folder / "keys.json"
    file.write_text(configuration)
    for arguments in (["migrate", "-v0"], ["apply", str(file), "--keys-out", str(keys)]):
        command = [sys.executable, "manage.py", *arguments]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    return environment, json.loads(keys.read_text())["bench/bench"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
