"""Access and refresh tokens: short JWTs, and rotation that notices a copied refresh token.

All refresh tokens of one sign-in are a family (accounts.models.RefreshFamily) of which only
the newest counts. Moving the family on is one conditional UPDATE, so of two that use the same
token at once exactly one wins; whoever comes with an old one ends the family for both.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, cast

import jwt
from django.conf import settings
from django.utils import timezone
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenError

from accounts.credentials import ACCESS_TYP
from accounts.models import Membership, RefreshFamily, User
from lib.ids import prefixed
from lib.models import Revision, Topic
from lib.problems import Forbidden, Unauthenticated
from tenants.models import Tenant

REFRESH_TYP = "rt+jwt"
_EXPIRED = "The sign-in is over. Sign in again."


class _TypedBackend(TokenBackend):
    """Says each token's kind in its header (RFC 8725 §3.11), and insists on it."""

    def __init__(self, typ: str) -> None:
        rules = settings.SIMPLE_JWT
        super().__init__(
            rules["ALGORITHM"],
            rules["SIGNING_KEY"],
            audience=rules["AUDIENCE"],
            issuer=rules["ISSUER"],
            leeway=rules["LEEWAY"],
        )
        self._typ = typ

    def encode(self, payload: dict[str, Any]) -> str:
        claims = {**payload, "aud": self.audience, "iss": self.issuer}
        return jwt.encode(
            claims, self.signing_key or "", algorithm=self.algorithm, headers={"typ": self._typ}
        )

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        claims: dict[str, Any] = super().decode(token, verify)
        if jwt.get_unverified_header(token).get("typ") != self._typ:
            raise TokenError("wrong kind")
        return claims


class AccessToken(simplejwt.AccessToken):
    def get_token_backend(self) -> TokenBackend:
        return _TypedBackend(ACCESS_TYP)


class RefreshToken(simplejwt.RefreshToken):
    access_token_class = AccessToken

    def get_token_backend(self) -> TokenBackend:
        return _TypedBackend(REFRESH_TYP)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a sign-in or a refresh hands out. `expires_in` is the access token's, in seconds."""

    access: str
    refresh: str
    expires_in: int


def sign_in(*, user: User, tenant: Tenant | None) -> Pair:
    """A new family. It ends after REFRESH_TOKEN_DAYS however often it is refreshed."""
    now = timezone.now()
    RefreshFamily.objects.filter(user=user, expires_at__lt=now).delete()
    family = RefreshFamily(
        id=prefixed("fam"),
        user=user,
        created_at=now,
        expires_at=now + settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"],
    )
    refresh = _refresh_token(family, tenant.public_id if tenant else "")
    family.current_jti = refresh["jti"]
    family.save(force_insert=True)
    return _pair(refresh)


def refresh(text: str) -> Pair:
    """A new pair for the newest refresh token of a family.

    Raises Unauthenticated (and ends the family, if the token was used before) or Forbidden.
    """
    shown = _read(text)
    family = RefreshFamily.objects.select_related("user").filter(pk=shown["family"]).first()
    if family is None or family.user.public_id != shown["sub"]:
        raise Unauthenticated(_EXPIRED)
    _check_standing(family.user, shown["tenant"])
    fresh = _refresh_token(family, shown["tenant"])
    # Conditions on the row itself only: of a join, PostgreSQL would make a subquery, which it
    # does not ask again after waiting for a concurrent update, and two would win.
    moved = RefreshFamily.objects.filter(
        pk=family.pk,
        current_jti=shown["jti"],
        revoked_at=None,
        expires_at__gt=timezone.now(),
    ).update(current_jti=fresh["jti"])
    if not moved:
        end_family(family.pk)
        raise Unauthenticated(_EXPIRED)
    return _pair(fresh)


def sign_out(text: str) -> None:
    """End the family of a refresh token, even of an old one. Raises Unauthenticated."""
    end_family(_read(text)["family"])


def end_family(family_id: str) -> None:
    """Its refresh token is refused from now on, its access tokens within a second."""
    open_family = RefreshFamily.objects.filter(pk=family_id, revoked_at=None)
    if open_family.update(revoked_at=timezone.now()):
        Revision.bump(Topic.KEYS)


def unverified_claims(text: str) -> dict[str, Any]:
    """The claims of an access token that `identify` has accepted already."""
    claims: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return claims


def _refresh_token(family: RefreshFamily, tenant: str) -> RefreshToken:
    token = cast("RefreshToken", RefreshToken.for_user(family.user))
    token["tenant"] = tenant
    token["family"] = family.pk
    token["exp"] = int(family.expires_at.timestamp())
    return token


def _pair(token: RefreshToken) -> Pair:
    lifetime: dt.timedelta = settings.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"]
    return Pair(str(token.access_token), str(token), int(lifetime.total_seconds()))


def _read(text: str) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = RefreshToken(text).payload  # type: ignore[arg-type]
    except TokenError:
        raise Unauthenticated(_EXPIRED) from None
    if not all(isinstance(claims.get(name), str) for name in ("family", "sub", "tenant", "jti")):
        raise Unauthenticated(_EXPIRED)
    return claims


def _check_standing(user: User, tenant: str) -> None:
    """Whether the user may still act for the tenant they signed in for."""
    if not user.is_active:
        raise Unauthenticated(_EXPIRED)
    if not tenant:
        return
    found = Membership.objects.select_related("tenant").filter(user=user, tenant__public_id=tenant)
    membership = found.first()
    if membership is None:
        raise Unauthenticated(_EXPIRED)
    if membership.tenant.status != Tenant.Status.ACTIVE:
        raise Forbidden(
            "The tenant is suspended. Ask the operator of this service.", code="tenant_suspended"
        )
