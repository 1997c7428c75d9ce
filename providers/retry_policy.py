"""How often one target is tried again, how long we wait before, and how much of that a provider
is spared when it fails for everybody.

The words are resilience4j's (RetryConfig), with a retry budget besides, as in Envoy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` at one target, the first included. Before the n-th retry comes a random wait
    (full jitter) of at most `base_seconds` · 2^(n-1), and never more than `max_seconds`. Over all
    calls a provider is retried at most `budget_percent` as often as it is called.
    """

    max_attempts: int = 3
    base_seconds: float = 1.0
    max_seconds: float = 4.0
    budget_percent: float = 20.0
