"""Token endpoints: OAuth 2.0's client credentials (RFC 6749 §4.4), for providers that want them.

A token names its client, so the sandbox keeps none: any that it ever gave out is good, unless
its client begins with `sk-bad`, which is refused here already.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qsl, unquote

from providers.sandbox.dialects.dialect import TOKEN, Answer, Refused, Request, encoded, is_bad

LIFE = 3600  # seconds
_OURS = "sandbox-token-"
_ERRORS = {400: "invalid_request", 401: "invalid_client", 429: "slow_down"}


def answer(request: Request) -> Answer:
    """Raises Refused."""
    form = dict(parse_qsl(request.body.decode("latin-1")))
    if form.get("grant_type") != "client_credentials":
        raise Refused(400, code="unsupported_grant_type")
    user, password = user_and_password(request)
    client = form.get("client_id") or unquote(user)
    secret = form.get("client_secret") or unquote(password)
    if not client or not secret or is_bad(client) or is_bad(secret):
        raise Refused(401)
    token = _OURS + base64.urlsafe_b64encode(client.encode()).decode()
    return Answer(
        TOKEN, encoded({"access_token": token, "token_type": "Bearer", "expires_in": LIFE})
    )


def refusal(refused: Refused) -> Answer:
    """RFC 6749 §5.2."""
    error = refused.code or _ERRORS.get(refused.status, "server_error")
    headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
    return Answer(TOKEN, encoded({"error": error}), refused.status, headers=headers)


def behind(token: str) -> str:
    """The client a token was given to; "" for what is none of ours."""
    return _decoded(token.removeprefix(_OURS)) if token.startswith(_OURS) else ""


def user_and_password(request: Request) -> tuple[str, str]:
    """Of HTTP Basic (RFC 7617); both empty for none."""
    kind, _, pair = request.headers.get("authorization", "").partition(" ")
    user, _, password = _decoded(pair if kind.lower() == "basic" else "").partition(":")
    return user, password


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(
            text, altchars=b"-_" if "-" in text or "_" in text else None
        ).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
