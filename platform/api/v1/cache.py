"""A tenant's word on its own kept answers."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Identity
from api import invalidation
from api.invalidation import Named
from api.pacing import INVALIDATIONS, slow_down
from api.permissions import BUILDERS, ByRule, Rule, identity_of
from api.serializers import Body, Shown
from cache import naming


class OwnInvalidation(Body):
    tag = serializers.CharField(
        max_length=64,
        help_text="A name that your calls gave, in X-Patchbay-Cache-Tags, to answers which they "
        "had fetched. It reaches those that are yours alone.",
    )

    def validate_tag(self, tag: str) -> str:
        if not naming.is_name(tag):
            raise serializers.ValidationError(
                "Up to 64 letters, digits and . _ : / -, beginning with a letter or digit."
            )
        return tag


class OwnInvalidationShown(Shown):
    tag = serializers.CharField()
    everywhere = serializers.BooleanField(
        help_text="true: in force within a second. false: not yet on all of our servers."
    )


class CacheInvalidation(APIView):
    permission_classes = [ByRule]
    rule = Rule("manage:cache", write=BUILDERS)

    @extend_schema(
        operation_id="cache_invalidate",
        tags=["cache"],
        request=OwnInvalidation,
        responses=OwnInvalidationShown,
    )
    def post(self, request: Request) -> Response:
        """Forget the answers that your calls tagged so."""
        identity = identity_of(request)
        slow_down(
            request,
            group="cache-invalidations",
            rate=INVALIDATIONS,
            tenant=identity.tenant_public_id or "",
        )
        body = OwnInvalidation(data=request.data)
        body.is_valid(raise_exception=True)
        tag = body.validated_data["tag"]
        everywhere = invalidation.invalidate(_own(identity, tag), by=_by(identity))
        return Response({"tag": tag, "everywhere": everywhere})


def _own(identity: Identity, tag: str) -> Named:
    assert identity.tenant_id is not None  # noqa: S101 - the rule lets no other pass
    whose = f"{identity.tenant_public_id}:{tag}"
    return Named("client", whose, tags=tuple(naming.of_client(identity.tenant_id, [tag])))


def _by(identity: Identity) -> str:
    is_key = identity.kind == "key"
    return f"key {identity.key_public_id}" if is_key else f"user {identity.user_public_id}"
