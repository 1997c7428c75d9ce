"""Turns foreign errors (DRF's, Django's, the stores') into ours, once, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import InterfaceError, OperationalError, connection
from django.http import Http404
from django_redis.exceptions import ConnectionInterrupted  # type: ignore[import-untyped]
from redis.exceptions import RedisError
from rest_framework import exceptions
from rest_framework.settings import api_settings

from lib.problems import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)

# The driver's own come from cursors that the server holds, which are closed without Django's help.
_driver: Any = connection.Database  # type: ignore[attr-defined]
STORE_ERRORS: tuple[type[Exception], ...] = (
    *(OperationalError, InterfaceError, _driver.OperationalError, _driver.InterfaceError),
    *(ConnectionInterrupted, RedisError),
)
_WHOLE = {NON_FIELD_ERRORS, api_settings.NON_FIELD_ERRORS_KEY}
_BY_TYPE: tuple[tuple[type[Exception], type[Problem]], ...] = (
    (Http404, NotFound),
    (exceptions.NotFound, NotFound),
    (PermissionDenied, Forbidden),
    (exceptions.PermissionDenied, Forbidden),
    (exceptions.NotAuthenticated, Unauthenticated),
    (exceptions.AuthenticationFailed, Unauthenticated),
    (exceptions.MethodNotAllowed, MethodNotAllowed),
    (exceptions.UnsupportedMediaType, UnsupportedMediaType),
    (RequestDataTooBig, PayloadTooLarge),
)


def as_problem(error: Exception) -> Problem | None:
    """What the caller is told, or None for an error of ours that nobody expected."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, exceptions.ValidationError):
        return refusal(_flatten(error.detail, ""))
    if isinstance(error, DjangoValidationError):
        return refusal(_flatten(_by_field(error), ""))
    for foreign, ours in _BY_TYPE:
        if isinstance(error, foreign):
            return ours()
    return _rest(error)


def refusal(faults: Iterator[dict[str, str]]) -> InvalidRequest:
    """422 for a body that was understood but breaks rules, with each fault and its place."""
    errors = list(faults)[:20]
    param = errors[0]["pointer"].removeprefix("/") or None if errors else None
    return InvalidRequest(
        "The request breaks a rule. Correct it as `errors` says and send it again.",
        status=422,
        param=param,
        errors=errors,
    )


def of_status(status: int) -> Problem:
    """For an answer of Django's own that is only a status and a page."""
    kinds: dict[int, type[Problem]] = {
        kind.status: kind
        for kind in (
            InvalidRequest,
            Unauthenticated,
            Forbidden,
            NotFound,
            MethodNotAllowed,
            PayloadTooLarge,
            UnsupportedMediaType,
            RateLimited,
        )
    }
    if status in kinds:
        return kinds[status]()
    if status == 503:
        return Unavailable(code="store_unavailable")
    if 400 <= status < 500:
        return InvalidRequest("The request was refused.", status=status)
    return Problem(status=status)


def _rest(error: Exception) -> Problem | None:
    if isinstance(error, exceptions.ParseError):
        return InvalidRequest("The body is no valid JSON. Send a JSON object in UTF-8.")
    if isinstance(error, exceptions.NotAcceptable):
        return Problem(
            "This path answers in JSON only. Accept application/json.",
            code="not_acceptable",
            status=406,
        )
    if isinstance(error, exceptions.Throttled):
        return RateLimited(retry_after=int(getattr(error, "wait", None) or 1))
    if isinstance(error, STORE_ERRORS):
        return Unavailable(
            "A store does not answer. Try again shortly.", code="store_unavailable", retry_after=5
        )
    return None


def _by_field(error: DjangoValidationError) -> Any:
    return error.message_dict if hasattr(error, "error_dict") else error.messages


def _flatten(detail: Any, pointer: str) -> Iterator[dict[str, str]]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            step = "" if name in _WHOLE else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _flatten(inner, pointer + step)
    elif isinstance(detail, list | tuple):
        for place, inner in enumerate(detail):
            nested = isinstance(inner, dict | list)
            yield from _flatten(inner, f"{pointer}/{place}" if nested else pointer)
    else:
        yield {"detail": str(detail), "pointer": pointer}
