"""Every error Patchbay tells a caller, as one tree (RFC 9457).

    Problem                        500 internal_error
    ├── InvalidRequest             400 invalid_request (422 when well-formed but refused)
    ├── Unauthenticated            401 unauthenticated | key_expired | key_revoked
    ├── Forbidden                  403 forbidden | insufficient_scope | ip_not_allowed
    │                                  | tenant_suspended
    ├── NotFound                   404 not_found
    ├── MethodNotAllowed           405 method_not_allowed
    ├── PayloadTooLarge            413 payload_too_large
    ├── UnsupportedMediaType       415 unsupported_media_type
    ├── IdempotencyConflict        409 idempotency_conflict
    ├── IdempotencyMismatch        422 idempotency_mismatch
    ├── RateLimited                429 rate_limit_exceeded
    ├── QuotaExceeded              429 quota_exceeded (402 where the metric is money)
    ├── PriceUnknown               422 price_unknown
    ├── UpstreamRejected           502 upstream_rejected (or the provider's own 4xx)
    ├── UpstreamTimeout            504 upstream_timeout
    ├── DeadlineExceeded           504 deadline_exceeded
    └── Unavailable                503 provider_unavailable | circuit_open | store_unavailable
                                       | overloaded | shutting_down

A code never changes without a new API version. `detail` says what to do next and never
holds an exception's text or a secret. This file knows no framework: the data path, DRF and
Django's own error handlers all render the same objects.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar

DOCS_URL = "/docs/errors"

TITLES: Mapping[str, str] = {
    "invalid_request": "The request is not valid",
    "unauthenticated": "Authentication is required",
    "key_expired": "The API key has expired",
    "key_revoked": "The API key was revoked",
    "forbidden": "Not allowed",
    "insufficient_scope": "The key lacks a scope",
    "ip_not_allowed": "This address may not use the key",
    "tenant_suspended": "The tenant is suspended",
    "not_found": "Not found",
    "method_not_allowed": "Method not allowed",
    "payload_too_large": "The request body is too large",
    "unsupported_media_type": "Unsupported media type",
    "not_acceptable": "No acceptable representation",
    "headers_too_large": "The request headers are too large",
    "idempotency_conflict": "No answer to repeat for this key",
    "idempotency_mismatch": "The key was used for another request",
    "rate_limit_exceeded": "Rate limit exceeded",
    "quota_exceeded": "Quota exceeded",
    "price_unknown": "The price is not known",
    "provider_unavailable": "No provider could answer",
    "circuit_open": "Every provider is resting",
    "upstream_rejected": "The provider refused the request",
    "upstream_timeout": "The provider did not answer in time",
    "not_cached": "Nothing is kept that answers this",
    "deadline_exceeded": "The deadline passed",
    "store_unavailable": "A store is unavailable",
    "overloaded": "Too busy",
    "shutting_down": "Shutting down",
    "internal_error": "Internal error",
}


class Problem(Exception):
    """One error as the caller sees it.

    `extra` holds RFC 9457 extension members (`errors`, `attempts`, `policy` …), `retry_after`
    is in whole seconds, and `param` names the offending request field in OpenAI's envelope.
    """

    status: int = 500
    code: str = "internal_error"
    openai_type: ClassVar[str] = "api_error"
    default_detail: ClassVar[str] = (
        "Something failed on our side. Try again, and quote the request id if it stays."
    )

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str | None = None,
        status: int | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        self.detail = detail or self.default_detail
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.param = param
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        self.extra = extra
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        return TITLES[self.code]

    def as_problem(self, request_id: str, now: dt.datetime) -> dict[str, Any]:
        """The body for `application/problem+json`."""
        return {
            "type": f"{DOCS_URL}#{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            "timestamp": now.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
            **self.extra,
        }

    def as_openai(self, request_id: str) -> dict[str, Any]:
        """The body on the OpenAI-compatible routes, whose SDKs read `error.message`."""
        return {
            "error": {
                "message": self.detail,
                "type": self.openai_type,
                "param": self.param,
                "code": self.code,
                "request_id": request_id,
                **self.extra,
            }
        }


class InvalidRequest(Problem):
    status = 400
    code = "invalid_request"
    openai_type = "invalid_request_error"
    default_detail = "The request is malformed. Correct it as `errors` says and send it again."


class Unauthenticated(Problem):
    status = 401
    code = "unauthenticated"
    openai_type = "authentication_error"
    default_detail = (
        "Send a valid API key or access token as `Authorization: Bearer …` or `X-API-Key: …`."
    )

    def __init__(self, detail: str | None = None, **kwargs: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **kwargs)


class Forbidden(Problem):
    status = 403
    code = "forbidden"
    openai_type = "permission_error"
    default_detail = "Your key or role does not allow this. Ask an owner of the tenant."


class NotFound(Problem):
    status = 404
    code = "not_found"
    openai_type = "invalid_request_error"
    default_detail = "There is nothing here. `GET /api/v1/catalogue` lists what there is."


class MethodNotAllowed(Problem):
    status = 405
    code = "method_not_allowed"
    openai_type = "invalid_request_error"
    default_detail = "This path does not take that method. See the Allow header."


class PayloadTooLarge(Problem):
    status = 413
    code = "payload_too_large"
    openai_type = "invalid_request_error"
    default_detail = "The body is larger than this path takes. Send less at once."


class UnsupportedMediaType(Problem):
    status = 415
    code = "unsupported_media_type"
    openai_type = "invalid_request_error"
    default_detail = "Send the body as application/json, uncompressed."


class IdempotencyConflict(Problem):
    status = 409
    code = "idempotency_conflict"
    openai_type = "invalid_request_error"
    default_detail = "The first call with this Idempotency-Key still runs. Wait for it."


class IdempotencyMismatch(Problem):
    status = 422
    code = "idempotency_mismatch"
    openai_type = "invalid_request_error"
    default_detail = "This Idempotency-Key was used with another body. Use a new key."


class RateLimited(Problem):
    status = 429
    code = "rate_limit_exceeded"
    openai_type = "rate_limit_error"
    default_detail = "Too many requests. Wait as long as Retry-After says."


class QuotaExceeded(Problem):
    status = 429
    code = "quota_exceeded"
    openai_type = "insufficient_quota"
    default_detail = "The quota is used up. It resets at `resets_at`."


class PriceUnknown(Problem):
    status = 422
    code = "price_unknown"
    openai_type = "invalid_request_error"
    default_detail = "A money quota applies and this model has no price. Set one, or a default."


class UpstreamRejected(Problem):
    status = 502
    code = "upstream_rejected"
    default_detail = "The provider refused the request."

    @property
    def _is_callers_fault(self) -> bool:
        return 400 <= self.status < 500

    def as_openai(self, request_id: str) -> dict[str, Any]:
        body = super().as_openai(request_id)
        if self._is_callers_fault:
            body["error"]["type"] = "invalid_request_error"
        return body


class UpstreamTimeout(Problem):
    status = 504
    code = "upstream_timeout"
    default_detail = "The provider did not answer in time. Try again."


class DeadlineExceeded(Problem):
    status = 504
    code = "deadline_exceeded"
    default_detail = "The call's deadline passed. Allow more time or ask for less."


class Unavailable(Problem):
    status = 503
    code = "provider_unavailable"
    default_detail = "No provider could answer just now. Try again shortly; `attempts` says why."
