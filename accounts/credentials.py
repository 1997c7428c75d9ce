"""What a caller shows: an API key or an access token, in `Authorization: Bearer …` or
`X-API-Key: …`. Reading one needs no look-up; `find` is the look-up."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import Any

import jwt
from django.conf import settings

from accounts.identity import HOUSE, WARM, Record
from accounts.records import family_ended, key_record, of_house, user_record, warm_record
from lib.problems import Unauthenticated
from tenants import keys
from tenants.keys import Mode

ACCESS_TYP = "at+jwt"  # RFC 9068 §2.1: no other kind of token passes for an access token


class Credential:
    """What a caller showed, well-formed; whether it holds, `Identities.check` says."""

    name: str

    def find(self) -> Record | None:
        raise NotImplementedError

    def proves(self, record: Record) -> bool:
        raise NotImplementedError


class KeyCredential(Credential):
    """An API key whose form and checksum are right."""

    def __init__(self, key: keys.ParsedKey) -> None:
        self.name = key.public_id
        self._shown = keys.digest(key.text, settings.KEY_PEPPER)

    def find(self) -> Record | None:
        return key_record(self.name)

    def proves(self, record: Record) -> bool:
        return hmac.compare_digest(self._shown, record.digest)


class TokenCredential(Credential):
    """An access token whose signature, audience and expiry are right."""

    def __init__(self, claims: dict[str, Any]) -> None:
        self._user: str = claims["sub"]
        self._tenant: str = claims.get("tenant") or ""
        self._family: str = claims.get("family") or ""
        self.name = f"{self._user}@{self._tenant}#{self._family}"

    def find(self) -> Record | None:
        if self._family and family_ended(self._family):
            return None
        return user_record(self._user, self._tenant)

    def proves(self, record: Record) -> bool:
        return True


class WarmCredential(Credential):
    """The gateway itself, asking on behalf of a tenant, or of the house. No caller can show it."""

    def __init__(self, tenant_id: int) -> None:
        self.name = f"warm#{tenant_id}"
        self._tenant_id = tenant_id

    def find(self) -> Record | None:
        if self._tenant_id == HOUSE:
            identity = replace(of_house(Mode.LIVE), tenant_id=HOUSE)
            return Record(replace(identity, kind=WARM, scopes=frozenset({"*"})))
        return warm_record(self._tenant_id)

    def proves(self, record: Record) -> bool:
        return True


class HouseCredential(Credential):
    """The house itself, for a call that staff make in the admin. No caller can show it."""

    def __init__(self, mode: Mode) -> None:
        self.name = f"house#{mode}"
        self._mode = mode

    def find(self) -> Record | None:
        return Record(replace(of_house(self._mode), tenant_id=HOUSE, scopes=frozenset({"*"})))

    def proves(self, record: Record) -> bool:
        return True


def credential(authorization: str | None, api_key: str | None) -> Credential:
    """The credential a request carries. Raises Unauthenticated; needs no look-up.

    One carrier a request: two could be checked by two rules.
    """
    if authorization is not None and api_key is not None:
        raise Unauthenticated("Send one credential: either Authorization or X-API-Key.")
    if api_key is not None:
        return _key_credential(api_key)
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    token = token.strip()
    return _key_credential(token) if token.startswith("pb_") else _token_credential(token)


def _key_credential(text: str) -> KeyCredential:
    parsed = keys.parse(text)
    if parsed is None:
        raise Unauthenticated
    return KeyCredential(parsed)


def _token_credential(token: str) -> TokenCredential:
    """RFC 8725: one algorithm bound to one key, audience and issuer required, own kind only."""
    rules: dict[str, Any] = settings.SIMPLE_JWT
    try:
        decoded = jwt.decode_complete(
            token,
            rules["SIGNING_KEY"],
            algorithms=[rules["ALGORITHM"]],
            audience=rules["AUDIENCE"],
            issuer=rules["ISSUER"],
            leeway=rules["LEEWAY"],
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )
    except jwt.PyJWTError:
        raise Unauthenticated from None
    claims = decoded["payload"]
    if decoded["header"].get("typ") != ACCESS_TYP or claims.get("token_type") != "access":
        raise Unauthenticated
    return TokenCredential(claims)
