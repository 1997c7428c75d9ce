"""What the data path tells about itself: one log line and a few metrics a call.

Both are gathered in memory and handed on a few times a second, because writing a line and
taking a dozen locks for each call would cost more than the call's own routing.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from typing import Any, BinaryIO

import orjson
from prometheus_client import Counter, Gauge, Histogram

from gateway.exchange import Exchange
from lib.clock import utc
from usage.reservation import Reservation

HAND_ON_SECONDS = 0.1
MAX_WAITING_LINES = 1000

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60)

REQUESTS = Counter(
    "patchbay_requests_total", "Calls answered on the data path.", ["operation", "status"]
)
LATENCY = Histogram(
    "patchbay_request_duration_seconds",
    "From the request's head to the answer's last byte.",
    ["operation"],
    buckets=_BUCKETS,
)
ATTEMPTS = Counter(
    "patchbay_attempts_total", "Tries at providers.", ["provider", "operation", "outcome"]
)
TOKENS = Counter("patchbay_tokens_total", "Tokens used.", ["provider", "kind"])
CHARGED = Counter("patchbay_charged_microusd_total", "What tenants pay, in µUSD.", ["provider"])
IN_FLIGHT = Gauge("patchbay_calls_in_flight", "Calls being answered.", multiprocess_mode="livesum")


class Observer:
    """Counts and logs calls that are over. `flush` hands on what was gathered."""

    def __init__(self, output: BinaryIO | None = None) -> None:
        self.in_flight = 0
        self._output = output or sys.stdout.buffer
        self._lines: list[bytes] = []
        self._seconds: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
        self._attempts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._used: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._timer: asyncio.TimerHandle | None = None

    def observe(self, exchange: Exchange, operation: str) -> None:
        seconds = exchange.elapsed
        self._seconds[operation, exchange.status].append(seconds)
        event: dict[str, Any] = {
            "event": "call",
            "level": "info",
            "timestamp": utc(exchange.clock.now()),
            "request_id": exchange.request_id,
            "operation": operation,
            "status": exchange.status,
            "ms": round(seconds * 1000, 2),
            "address": exchange.address,
        }
        if client_request_id := exchange.client_request_id:
            event["client_request_id"] = client_request_id
        if exchange.reservation is not None:
            self._observe_use(exchange.reservation, event)
        self._lines.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= MAX_WAITING_LINES:
            self.flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HAND_ON_SECONDS, self.flush)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        self._count()
        IN_FLIGHT.set(self.in_flight)
        self._output.write(b"".join(lines))
        self._output.flush()

    def _count(self) -> None:
        for (operation, status), seconds in self._seconds.items():
            REQUESTS.labels(operation, str(status)).inc(len(seconds))
            histogram = LATENCY.labels(operation)
            for one in seconds:
                histogram.observe(one)
        for labels, tries in self._attempts.items():
            ATTEMPTS.labels(*labels).inc(tries)
        for provider, (read, made, charged) in self._used.items():
            TOKENS.labels(provider, "input").inc(read)
            TOKENS.labels(provider, "output").inc(made)
            CHARGED.labels(provider).inc(charged)
        for gathered in (self._seconds, self._attempts, self._used):
            gathered.clear()

    def _observe_use(self, reservation: Reservation, event: dict[str, Any]) -> None:
        record, attempts = reservation.record, reservation.attempts
        for attempt in attempts:
            self._attempts[attempt.provider, record.operation, attempt.verdict] += 1
        if record.provider:
            used = self._used[record.provider]
            used[0] += record.input_tokens
            used[1] += record.output_tokens
            used[2] += record.charge
        event["tenant"] = record.tenant_id
        event["key"] = record.key_id
        event["mode"] = record.mode
        event["provider"] = record.provider
        event["model"] = record.model
        event["attempts"] = len(attempts)
        event["code"] = record.code
        event["input_tokens"] = record.input_tokens
        event["output_tokens"] = record.output_tokens
        event["charge_microusd"] = record.charge
