"""Every answer of Django's side: a request id on it, a log line for it, and problem+json
(RFC 9457) for every 4xx and 5xx, whoever made it. Pages of the admin keep their HTML."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from rest_framework.response import Response

from api import faults
from lib.ids import is_uuid, uuid7
from lib.problems import Problem, RateLimited

PROBLEM_JSON = "application/problem+json"
HTML_PREFIXES = ("/admin/", "/app/")  # pages for people, whose errors stay pages
UNCACHED_PREFIXES = ("/api/", "/internal/")
_OF_THE_BODY = {f"content-{what}" for what in ("type", "length", "encoding", "language")}

log = structlog.get_logger("patchbay.access")


class ProblemMiddleware:
    """The outermost of ours. Synchronous on purpose: all views are, so a call costs one thread."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        request_id = uuid7()
        request.request_id = request_id  # type: ignore[attr-defined]
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = _in_our_words(request, self.get_response(request))
            response["X-Request-Id"] = request_id
            if request.path.startswith(UNCACHED_PREFIXES):
                response.setdefault("Cache-Control", "no-store")
            if not request.path.startswith(settings.STATIC_URL):
                _log(request, response, time.perf_counter() - begun)
        return response


def request_id_of(request: Any) -> str:
    """The id that the middleware gave; a new one where there was no middleware."""
    return getattr(request, "request_id", "") or uuid7()


def problem_response(problem: Problem, request: Any) -> HttpResponse:
    """For code outside DRF."""
    response = HttpResponse(
        orjson.dumps(_body(problem, request)), status=problem.status, content_type=PROBLEM_JSON
    )
    for name, value in problem.headers.items():
        response[name] = value
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook. None hands the error to Django, which logs it and answers a bare 500."""
    problem = faults.as_problem(error)
    if problem is None:
        return None
    if problem.status >= 500:
        log.warning("failed", code=problem.code, reason=type(error).__name__)
    return Response(
        _body(problem, context.get("request")),
        status=problem.status,
        headers=problem.headers,
        content_type=PROBLEM_JSON,
    )


def lockout(
    request: HttpRequest, _response: Any = None, _credentials: Any = None
) -> HttpResponseBase:
    """django-axes' hook: too many wrong passwords. Says the same whether the user exists."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    if request.path.startswith(HTML_PREFIXES):
        page = render(request, "api/locked.html", {"minutes": -(-seconds // 60)}, status=429)
        page["Retry-After"] = str(seconds)
        return page
    problem = RateLimited(
        "Too many failed sign-ins. Wait as long as Retry-After says.",
        retry_after=seconds,
        policy="sign-in-failures",
        reset_seconds=seconds,
    )
    return problem_response(problem, request)


def _body(problem: Problem, request: Any) -> dict[str, Any]:
    return problem.as_problem(request_id_of(request), dt.datetime.now(dt.UTC))


def _in_our_words(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The answer, as a problem where it is an error that Django worded."""
    if response.status_code < 400 or request.path.startswith(HTML_PREFIXES):
        return response
    if response.get("Content-Type", "").startswith(PROBLEM_JSON):
        return response
    if isinstance(response, Response):
        return response  # DRF's errors are problems already; this is a report, such as health's
    told = problem_response(faults.of_status(response.status_code), request)
    for name, value in response.items():
        if name.lower() not in _OF_THE_BODY and name not in told:
            told[name] = value
    told.cookies.update(response.cookies)
    response.close()
    return told


def _log(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    """One line a call. The route's template, never the path or query: they may hold secrets."""
    identity = getattr(request, "identity", None)
    match = request.resolver_match
    shown = request.headers.get("X-Client-Request-Id", "")
    log.info(
        "call",
        method=request.method,
        route=match.route if match else "",
        status=response.status_code,
        ms=round(seconds * 1000, 1),
        tenant=identity.tenant if identity else "",
        client=identity.client if identity else "",
        client_request_id=shown.lower() if is_uuid(shown) else "",
    )
