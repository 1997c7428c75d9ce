"""Named sets of numbers for breakers and retries, for those who need not think about each."""

from __future__ import annotations

from collections.abc import Mapping

Rules = Mapping[str, float]

PRESETS: Mapping[str, Mapping[str, Rules]] = {
    "simple": {
        "retry": {"max_attempts": 3},
        "breaker": {"consecutive_failures": 5, "open_seconds": 60},
    },
    "development": {
        "retry": {"max_attempts": 2},
        "breaker": {"consecutive_failures": 3, "open_seconds": 30},
    },
    "production": {
        "retry": {"max_attempts": 5},
        "breaker": {"consecutive_failures": 10, "open_seconds": 120},
    },
}
