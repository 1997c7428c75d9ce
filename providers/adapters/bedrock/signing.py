"""AWS Signature Version 4, pure: what is signed, with which key, and what a request then says.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
_USUAL = {"https": 443, "http": 80}


class Keys(NamedTuple):
    """Long-term ones have no session token."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""


class Scope(NamedTuple):
    """What a signature is good for. `moment` is `20150830T123600Z`."""

    moment: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.moment[:8]}/{self.region}/{self.service}/aws4_request"


class Signable(NamedTuple):
    """A request. `path` is as it is sent: what is escaped in it is escaped once more. All
    `headers` are signed; their names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def names(self) -> str:
        return ";".join(sorted(self.headers))

    def __str__(self) -> str:
        """The canonical request."""
        pairs = sorted((_escaped(n), _escaped(v)) for n, v in parse_qsl(self.query, True))
        lines = [
            f"{name}:{' '.join(value.split())}" for name, value in sorted(self.headers.items())
        ]
        return "\n".join(
            (
                self.method,
                quote(self.path or "/", safe="/"),
                "&".join(f"{name}={value}" for name, value in pairs),
                *lines,
                "",
                self.names,
                hashlib.sha256(self.body).hexdigest(),
            )
        )


def moment_of(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y%m%dT%H%M%SZ")


def signature(request: Signable, scope: Scope, secret_access_key: str) -> str:
    digest = hashlib.sha256(str(request).encode()).hexdigest()
    told = "\n".join((ALGORITHM, scope.moment, str(scope), digest))
    key = f"AWS4{secret_access_key}".encode()
    for part in (scope.moment[:8], scope.region, scope.service, "aws4_request", told):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


def signed_headers(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, keys: Keys, scope: Scope
) -> dict[str, str]:
    """`headers`, with the date, the session and the signature of all of them."""
    parts = urlsplit(url)
    dated = {**headers, "x-amz-date": scope.moment}
    if keys.session_token:
        dated["x-amz-security-token"] = keys.session_token
    host = (parts.hostname or "").lower()
    if parts.port not in (None, _USUAL.get(parts.scheme)):
        host = f"{host}:{parts.port}"
    request = Signable(method, parts.path, parts.query, {**dated, "host": host}, body)
    signed = signature(request, scope, keys.secret_access_key)
    dated["authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, "
        f"SignedHeaders={request.names}, Signature={signed}"
    )
    return dated


def _escaped(text: str) -> str:
    return quote(text, safe="-_.~")
