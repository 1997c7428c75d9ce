"""Our problems in Anthropic's envelope. Its clients choose by the type; `code` is ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.problems import Problem

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
_BY_CODE = {
    "overloaded": "overloaded_error",
    "shutting_down": "overloaded_error",
    "provider_unavailable": "overloaded_error",
    "circuit_open": "overloaded_error",
    "deadline_exceeded": "timeout_error",
    "upstream_timeout": "timeout_error",
}


def envelope(problem: Problem, request_id: str) -> dict[str, Any]:
    """The body of an answer that refuses."""
    kind = _BY_CODE.get(problem.code) or _TYPES.get(problem.status)
    kind = kind or ("invalid_request_error" if problem.status < 500 else "api_error")
    told = {"type": kind, "message": problem.detail, "code": problem.code, "param": problem.param}
    error = {**told, **problem.extra}
    return {"type": "error", "error": error, "request_id": request_id}


def broken_off(error: Mapping[str, Any]) -> dict[str, Any]:
    """What an `error` event says, from the one that ends a broken stream of chunks."""
    kind = _BY_CODE.get(str(error.get("code")), "api_error")
    told = {name: value for name, value in error.items() if name not in ("type", "request_id")}
    return {"error": {"type": kind, **told}, "request_id": error.get("request_id")}
