"""Sign in, refresh, sign out, and who am I."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib.auth import authenticate
from django.db.models import Q
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import tokens
from accounts.identity import Identity
from accounts.models import Membership, User
from accounts.services import normal_email
from api.pacing import REFRESHES, SIGN_INS, slow_down
from api.permissions import identity_of
from api.serializers import Body, Shown
from lib.clock import rfc3339, utc
from lib.problems import Forbidden, Unauthenticated
from tenants.keys import Mode
from tenants.models import Tenant

MODES = [(mode.value, mode.value) for mode in Mode]
_WRONG = "The e-mail address or the password is wrong."


class LoginBody(Body):
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(max_length=1024, trim_whitespace=False)
    tenant = serializers.CharField(
        max_length=63, required=False, help_text="Slug or id; without it, your oldest membership."
    )


class RefreshBody(Body):
    refresh = serializers.CharField(max_length=4096)


class LogoutBody(Body):
    refresh = serializers.CharField(
        max_length=4096, required=False, help_text="Without it, the access token's sign-in ends."
    )


class PairShown(Shown):
    access = serializers.CharField()
    refresh = serializers.CharField()
    token_type = serializers.CharField(help_text="Always Bearer.")
    expires_in = serializers.IntegerField(help_text="Seconds the access token lives.")


class LimitShown(Shown):
    name = serializers.CharField()
    scope = serializers.CharField()
    metric = serializers.CharField()
    limit = serializers.IntegerField()
    per_seconds = serializers.IntegerField(allow_null=True, help_text="null for concurrency.")
    operations = serializers.ListField(child=serializers.CharField())


class QuotaShown(Shown):
    name = serializers.CharField()
    scope = serializers.CharField()
    metric = serializers.CharField()
    window = serializers.CharField()
    limit = serializers.IntegerField(help_text="µUSD where the metric is cost.")
    hard = serializers.BooleanField()
    operations = serializers.ListField(child=serializers.CharField())


class TenantInStatus(Shown):
    id = serializers.CharField()
    slug = serializers.CharField()


class StatusShown(Shown):
    kind = serializers.ChoiceField(choices=["key", "user"])
    id = serializers.CharField()
    tenant = TenantInStatus(allow_null=True)
    mode = serializers.ChoiceField(choices=MODES)
    role = serializers.CharField(allow_null=True)
    is_staff = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    limits = LimitShown(many=True)
    quotas = QuotaShown(many=True)


class PublicView(APIView):
    """Carries no credential, so none is looked at."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]

    def checked(self, request: Request, body_class: type[Body]) -> dict[str, Any]:
        body = body_class(data=request.data)
        body.is_valid(raise_exception=True)
        data: dict[str, Any] = body.validated_data
        return data


class Login(PublicView):
    @extend_schema(
        operation_id="auth_login", tags=["auth"], request=LoginBody, responses={200: PairShown}
    )
    def post(self, request: Request) -> Response:
        """Exchange an e-mail address and a password for tokens."""
        slow_down(request, group="login", rate=SIGN_INS)
        data = self.checked(request, LoginBody)
        # Unknown, inactive and wrong all take one run of the hasher and get one answer.
        user = authenticate(
            request._request, username=normal_email(data["email"]), password=data["password"]
        )
        if not isinstance(user, User):
            raise Unauthenticated(_WRONG)
        tenant = _tenant_for(user, data.get("tenant"))
        return _shown(tokens.sign_in(user=user, tenant=tenant))


class Refresh(PublicView):
    @extend_schema(
        operation_id="auth_refresh", tags=["auth"], request=RefreshBody, responses={200: PairShown}
    )
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for new tokens; the old one is used up."""
        slow_down(request, group="refresh", rate=REFRESHES)
        return _shown(tokens.refresh(self.checked(request, RefreshBody)["refresh"]))


class Logout(PublicView):
    @extend_schema(
        operation_id="auth_logout", tags=["auth"], request=LogoutBody, responses={204: None}
    )
    def post(self, request: Request) -> Response:
        """End a sign-in: its refresh token at once, its access tokens within a second."""
        slow_down(request, group="refresh", rate=REFRESHES)
        data = self.checked(request, LogoutBody)
        if "refresh" in data:
            tokens.sign_out(data["refresh"])
        else:
            _end_own(request)
        return Response(status=204)


class Status(APIView):
    @extend_schema(operation_id="auth_status", tags=["auth"], responses={200: StatusShown})
    def get(self, request: Request) -> Response:
        """Who you are, for which tenant, what you may do and until when."""
        identity = identity_of(request)
        return Response(_status(identity, _expiry(identity, request)))


def _tenant_for(user: User, named: str | None) -> Tenant | None:
    """The tenant to act for. One the user is no member of is as good as a wrong password."""
    memberships = Membership.objects.filter(user=user).select_related("tenant").order_by("pk")
    if named is not None:
        memberships = memberships.filter(Q(tenant__slug=named) | Q(tenant__public_id=named))
    membership = memberships.first()
    if membership is None:
        if named is not None:
            raise Unauthenticated(_WRONG)
        return None
    if membership.tenant.status != Tenant.Status.ACTIVE:
        raise Forbidden(
            "The tenant is suspended. Ask the operator of this service.", code="tenant_suspended"
        )
    tenant: Tenant = membership.tenant
    return tenant


def _shown(pair: tokens.Pair) -> Response:
    return Response(
        {
            "access": pair.access,
            "refresh": pair.refresh,
            "token_type": "Bearer",
            "expires_in": pair.expires_in,
        }
    )


def _end_own(request: Request) -> None:
    from api.authentication import PatchbayAuthentication

    if PatchbayAuthentication().authenticate(request) is None:
        raise Unauthenticated("Send the refresh token, or the access token to sign out of.")
    family = (_claims(request) or {}).get("family")
    if not family:
        raise Unauthenticated("An API key has no sign-in to end. Revoke the key instead.")
    tokens.end_family(family)


def _claims(request: Request) -> dict[str, Any] | None:
    """The accepted access token's claims; None when the caller used a key."""
    carried = request.headers.get("Authorization", "").partition(" ")[2].strip()
    if not carried or carried.startswith("pb_"):
        return None
    return tokens.unverified_claims(carried)


def _expiry(identity: Identity, request: Request) -> dt.datetime | None:
    claims = _claims(request) if identity.kind == "user" else None
    seconds = claims["exp"] if claims else identity.expires_at
    return None if seconds is None else utc(seconds)


def _status(identity: Identity, expires_at: dt.datetime | None) -> dict[str, Any]:
    tenant = {"id": identity.tenant_public_id, "slug": identity.tenant}
    is_key = identity.kind == "key"
    return {
        "kind": identity.kind,
        "id": f"key_{identity.key_public_id}" if is_key else identity.user_public_id,
        "tenant": tenant if identity.tenant_id is not None else None,
        "mode": identity.mode.value,
        "role": identity.role or None,
        "is_staff": identity.is_staff,
        "scopes": sorted(identity.scopes),
        "expires_at": rfc3339(expires_at) if expires_at else None,
        "limits": [
            {
                "name": limit.name,
                "scope": limit.scope.value,
                "metric": limit.metric.value,
                "limit": limit.limit,
                "per_seconds": limit.per_seconds or None,
                "operations": sorted(limit.operations),
            }
            for limit in identity.rate_limits
        ],
        "quotas": [
            {
                "name": quota.name,
                "scope": quota.scope.value,
                "metric": quota.metric.value,
                "window": quota.window.value,
                "limit": quota.limit,
                "hard": quota.hard,
                "operations": sorted(quota.operations),
            }
            for quota in identity.quotas
        ],
    }
