"""Members: who belongs to the tenant, in which role."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.response import Response

from accounts import services
from accounts.models import Membership, Role
from api.permissions import Rule
from api.resources import TenantResource
from api.serializers import Body, Shown
from lib.problems import Forbidden


class MemberShown(Shown):
    id = serializers.CharField(source="user.public_id")
    email = serializers.EmailField(source="user.email")
    role = serializers.ChoiceField(choices=Role.choices)
    created_at = serializers.DateTimeField()


class MemberBody(Body):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices, required=False)


class MemberChange(Body):
    role = serializers.ChoiceField(choices=Role.choices)


@extend_schema(tags=["members"])
@extend_schema_view(
    list=extend_schema(summary="List the tenant's members"),
    retrieve=extend_schema(summary="Show a member"),
)
class MemberViewSet(TenantResource):
    queryset = Membership.objects.select_related("user", "tenant")
    serializer_class = MemberShown
    lookup_field = "user__public_id"
    lookup_url_kwarg = "user_id"
    lookup_value_regex = "usr_[0-9a-z]{26}"
    rule = Rule("manage:members")

    @extend_schema(
        summary="Add a member",
        description="Who has no account yet gets one, and can sign in once a password is set.",
        request=MemberBody,
        responses={201: MemberShown},
    )
    def create(self, request: Any) -> Response:
        data = self.checked(MemberBody)
        self._only_owners_touch_owners(data.get("role", ""))
        return self.shown(services.add_member(tenant=self.tenant, **data), 201)

    @extend_schema(summary="Change a member's role", request=MemberChange)
    def partial_update(self, request: Any, user_id: str) -> Response:
        membership, role = self.get_object(), self.checked(MemberChange)["role"]
        self._only_owners_touch_owners(membership.role, role)
        return self.shown(services.change_role(membership=membership, role=role))

    @extend_schema(
        summary="Remove a member",
        description="The last owner stays.",
        responses={204: None},
    )
    def destroy(self, request: Any, user_id: str) -> Response:
        membership = self.get_object()
        self._only_owners_touch_owners(membership.role)
        services.remove_member(membership=membership)
        return Response(status=204)

    def _only_owners_touch_owners(self, *roles: str) -> None:
        if Role.OWNER in roles and self.identity.role != Role.OWNER:
            raise Forbidden("Only an owner may make, change or remove an owner.")
