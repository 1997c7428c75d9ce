"""OAuth 2.0's client credentials grant (RFC 6749 §4.4), pure: the request for a token, and what
comes back read as one."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from providers.adapter import StreamFault
from providers.call import Grant, Outcome, Upstream, UpstreamRequest, Verdict
from providers.rejection import of_a_page, parsed, retry_after
from providers.secret_form import SecretForm

FORM = SecretForm(("client_id", "client_secret"), whole=False)
UNTOLD = 300.0  # seconds that a token is good for whose answer does not say
MOST = 86_400.0
KEPT = 0.9  # of its life: what is sent near the end may come too late

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,8192}")  # RFC 6750 §2.1
_OF_THE_CLIENT = frozenset({"invalid_client", "unauthorized_client"})


class Token(NamedTuple):
    """`seconds`: for how long it may be used."""

    text: str
    seconds: float


def request_of(grant: Grant, upstream: Upstream) -> UpstreamRequest:
    """RFC 6749 §2.3.1: by HTTP Basic both parts are form-encoded first."""
    parts = upstream.parts
    client = (parts.get("client_id", ""), parts.get("client_secret", ""))
    form = {"grant_type": "client_credentials"} | ({"scope": grant.scope} if grant.scope else {})
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if grant.in_body:
        form |= {"client_id": client[0], "client_secret": client[1]}
    else:
        pair = ":".join(quote(part, safe="") for part in client)
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return UpstreamRequest("POST", grant.url, headers, urlencode(form).encode())


def token_of(status: int, headers: Mapping[str, str], body: bytes) -> Token:
    """Raises StreamFault, whose outcome holds no word of the answer's: it may quote the secret."""
    document = parsed(body)
    told = document if isinstance(document, dict) else {}
    if not 200 <= status < 300:
        raise StreamFault(_refusal(status, headers, str(told.get("error"))))
    text = told.get("access_token")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise StreamFault(Outcome(Verdict.BAD_PAYLOAD, status, "the answer holds no access token"))
    return Token(text, KEPT * _life(told.get("expires_in")))


def _life(told: object) -> float:
    try:
        seconds = float(told) if isinstance(told, int | float | str) else UNTOLD
    except ValueError:
        return UNTOLD
    return UNTOLD if math.isnan(seconds) else min(max(seconds, 0.0), MOST)


def _refusal(status: int, headers: Mapping[str, str], error: str) -> Outcome:
    """Only what says that the client is not known counts against the credential."""
    message = f"no access token: its token endpoint answered {status}"
    if verdict := of_a_page(status, headers):
        return Outcome(verdict, status, message)
    if status == 401 or (status == 400 and error in _OF_THE_CLIENT):
        return Outcome(Verdict.AUTH, status, message)
    if status == 429:
        return Outcome(Verdict.RATE_LIMITED, status, message, retry_after(headers))
    if status in (408, 425) or status >= 500:
        return Outcome(Verdict.UNAVAILABLE, status, message, retry_after(headers))
    return Outcome(Verdict.BLOCKED, status, message)
