"""Every problem code in words for /docs/errors; a test keeps it complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Explained(NamedTuple):
    """`retryable`: whether the same request may succeed later, unchanged."""

    status: str
    cause: str
    fix: str
    retryable: bool = False


EXPLAINED: Mapping[str, Explained] = {
    "invalid_request": Explained(
        "400, 422",
        "The request is malformed, or a field breaks a rule.",
        "Read `errors`: each entry says what is wrong and where, as a JSON Pointer.",
    ),
    "unauthenticated": Explained(
        "401",
        "There is no credential, two of them, or one that we do not accept.",
        "Send one API key or access token as `Authorization: Bearer …` or `X-API-Key: …`.",
    ),
    "key_expired": Explained(
        "401", "The API key's expiry has passed.", "Make a new key, or rotate earlier next time."
    ),
    "key_revoked": Explained("401", "Someone revoked the API key.", "Use another key."),
    "forbidden": Explained(
        "403",
        "You are known, but your role does not allow this, or staff switched off what you ask for.",
        "Do as `detail` says, or ask an owner of the tenant for another role.",
    ),
    "insufficient_scope": Explained(
        "403", "The key has no scope for this.", "Use a key with the scope that `detail` names."
    ),
    "ip_not_allowed": Explained(
        "403",
        "The key may be used from listed networks only, and your address is in none.",
        "Add your network to the key's `allowed_ips`, or call from a listed one.",
    ),
    "tenant_suspended": Explained(
        "403", "The operator suspended the tenant.", "Ask the operator of this service."
    ),
    "not_found": Explained(
        "404",
        "There is nothing at this path, or it is not yours.",
        "Check the path and the id. `GET /api/v1/catalogue` lists the operations.",
    ),
    "method_not_allowed": Explained(
        "405", "The path does not take this method.", "Use a method that the Allow header names."
    ),
    "payload_too_large": Explained(
        "413", "The body is larger than this path takes.", "Send less at once."
    ),
    "unsupported_media_type": Explained(
        "415", "The body is no plain JSON.", "Send it as application/json, uncompressed, in UTF-8."
    ),
    "not_acceptable": Explained(
        "406", "The Accept header allows nothing we can send.", "Accept application/json."
    ),
    "headers_too_large": Explained(
        "431", "The request's headers are too large.", "Send fewer or shorter headers."
    ),
    "idempotency_conflict": Explained(
        "409",
        "The first call with this Idempotency-Key has not ended yet, or broke off.",
        "With Retry-After: wait so long, then send it again. Without: see `status_url`.",
        retryable=True,
    ),
    "idempotency_mismatch": Explained(
        "422",
        "The Idempotency-Key was used with another body.",
        "Use a new key for a new request.",
    ),
    "rate_limit_exceeded": Explained(
        "429",
        "More calls came than the limit named in `policy` allows in its span.",
        "Wait as long as Retry-After says.",
        retryable=True,
    ),
    "quota_exceeded": Explained(
        "429, 402",
        "A quota of the key, project, tenant or provider is used up.",
        "Wait until `resets_at`, or ask for a larger quota.",
        retryable=True,
    ),
    "price_unknown": Explained(
        "422",
        "A money quota applies and the model has no price, so its cost cannot be bounded.",
        "Choose another model, or have the operator set a price.",
    ),
    "provider_unavailable": Explained(
        "503",
        "Every provider of the route failed or was skipped; `attempts` says why.",
        "Try again shortly.",
        retryable=True,
    ),
    "circuit_open": Explained(
        "503",
        "Every provider of the route failed so often lately that it is left to rest.",
        "Wait as long as Retry-After says.",
        retryable=True,
    ),
    "upstream_rejected": Explained(
        "502, 4xx",
        "The provider refused the request, or no provider's answer passed the route's checks. A "
        "4xx means the request itself was at fault.",
        "Correct what `detail` names; for a 502, tell the operator.",
    ),
    "not_cached": Explained(
        "504",
        "`only-if-cached` was asked for, and nothing is kept that answers.",
        "Leave it out: then a provider is asked.",
    ),
    "upstream_timeout": Explained(
        "504", "The provider took too long.", "Try again, or ask for less.", retryable=True
    ),
    "deadline_exceeded": Explained(
        "504",
        "The call's deadline passed (`X-Patchbay-Deadline-Ms`, or the service's own).",
        "Allow more time, or ask for less.",
        retryable=True,
    ),
    "store_unavailable": Explained(
        "503",
        "A store that the answer depends on does not respond.",
        "Wait as long as Retry-After says.",
        retryable=True,
    ),
    "overloaded": Explained(
        "503", "More calls run than we can carry.", "Wait and try again.", retryable=True
    ),
    "shutting_down": Explained(
        "503", "This server is going away.", "Try again: another one answers.", retryable=True
    ),
    "internal_error": Explained(
        "500",
        "Something failed on our side.",
        "Try again. If it stays, tell the operator the request id.",
        retryable=True,
    ),
}
