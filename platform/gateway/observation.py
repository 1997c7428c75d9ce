"""What the data path tells about itself: one log line and a few metrics a call."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram

from gateway.exchange import Exchange
from lib.clock import utc
from usage.reservation import Reservation

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

# Straight to standard output, past the standard library's handlers: this line is written for
# every call, and holds nothing a client could have written a secret into.
_access = structlog.wrap_logger(
    structlog.BytesLogger(sys.stdout.buffer),
    processors=[structlog.processors.JSONRenderer(serializer=lambda e, **_: orjson.dumps(e))],
    wrapper_class=structlog.BoundLogger,
    cache_logger_on_first_use=True,
)

_children: dict[tuple[Any, ...], Any] = {}


def _child(metric: Counter | Histogram, *labels: str) -> Any:
    """A metric's child by its labels, looked up without building it anew each call."""
    key = (metric, *labels)
    child = _children.get(key)
    if child is None:
        child = _children[key] = metric.labels(*labels)
    return child


def observe(exchange: Exchange, operation: str) -> None:
    """Count and log one call that is over."""
    seconds = exchange.elapsed
    _child(REQUESTS, operation, str(exchange.status)).inc()
    _child(LATENCY, operation).observe(seconds)
    event: dict[str, Any] = {
        "event": "call",
        "level": "info",
        "timestamp": utc(exchange.clock.now()).isoformat(),
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
        _observe_use(exchange.reservation, event)
    _access.info(**event)


def _observe_use(reservation: Reservation, event: dict[str, Any]) -> None:
    record = reservation.record
    for attempt in reservation.attempts:
        _child(ATTEMPTS, attempt.provider, record.operation, attempt.verdict).inc()
    provider = record.provider
    if record.input_tokens:
        _child(TOKENS, provider, "input").inc(record.input_tokens)
    if record.output_tokens:
        _child(TOKENS, provider, "output").inc(record.output_tokens)
    if record.charge:
        _child(CHARGED, provider).inc(record.charge)
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
