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
import structlog
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


_render: Any = structlog.processors.JSONRenderer(
    serializer=lambda event, **_: orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
)


class Observer:
    """Counts and logs calls that are over. `flush` hands on what was gathered."""

    def __init__(self, output: BinaryIO | None = None) -> None:
        self.in_flight = 0
        self._output = output or sys.stdout.buffer
        self._lines: list[bytes] = []
        self._counts: defaultdict[tuple[Any, ...], int] = defaultdict(int)
        self._latencies: defaultdict[str, list[float]] = defaultdict(list)
        self._timer: asyncio.TimerHandle | None = None

    def observe(self, exchange: Exchange, operation: str) -> None:
        seconds = exchange.elapsed
        self._counts[REQUESTS, operation, str(exchange.status)] += 1
        self._latencies[operation].append(seconds)
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
        client_request_id = exchange.client_request_id
        if client_request_id:
            event["client_request_id"] = client_request_id
        if exchange.reservation is not None:
            self._observe_use(exchange.reservation, event)
        self._lines.append(_render(None, "info", event))
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
        counts, self._counts = self._counts, defaultdict(int)
        latencies, self._latencies = self._latencies, defaultdict(list)
        for (metric, *labels), amount in counts.items():
            metric.labels(*labels).inc(amount)
        for operation, seconds in latencies.items():
            histogram = LATENCY.labels(operation)
            for one in seconds:
                histogram.observe(one)
        IN_FLIGHT.set(self.in_flight)
        self._output.write(b"".join(lines))
        self._output.flush()

    def _observe_use(self, reservation: Reservation, event: dict[str, Any]) -> None:
        record, counts = reservation.record, self._counts
        for attempt in reservation.attempts:
            counts[ATTEMPTS, attempt.provider, record.operation, attempt.verdict] += 1
        provider = record.provider
        if provider:
            counts[TOKENS, provider, "input"] += record.input_tokens
            counts[TOKENS, provider, "output"] += record.output_tokens
            counts[CHARGED, provider] += record.charge
        event |= {
            "tenant": record.tenant_id,
            "key": record.key_id,
            "mode": record.mode,
            "provider": provider,
            "model": record.model,
            "attempts": len(reservation.attempts),
            "code": record.code,
            "input_tokens": record.input_tokens,
            "output_tokens": record.output_tokens,
            "charge_microusd": record.charge,
        }
