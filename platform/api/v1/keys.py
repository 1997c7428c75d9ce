"""API keys: made (and shown once), rotated, changed, revoked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.response import Response

from accounts.identity import Identity
from api.pacing import NEW_KEYS, slow_down
from api.permissions import BUILDERS, MANAGERS, Rule
from api.resources import TenantResource
from api.serializers import Body, Shown
from lib.problems import Forbidden, InvalidRequest
from tenants import services
from tenants.keys import Mode
from tenants.models import ApiKey, Project
from tenants.scopes import TENANT_RIGHTS, is_right, rights_of

MODES = [(mode.value, mode.value) for mode in Mode]


class KeyShown(Shown):
    id = serializers.CharField(source="key_id")
    hint = serializers.CharField(help_text="The public part and the last four characters.")
    project = serializers.CharField(source="project.public_id")
    name = serializers.CharField()
    mode = serializers.ChoiceField(choices=MODES)
    scopes = serializers.ListField(child=serializers.CharField())
    allowed_ips = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="The minute of its last call, some seconds after it."
    )
    replaces = serializers.CharField(source="replaces.key_id", allow_null=True, default=None)
    created_at = serializers.DateTimeField()


class NewKeyShown(KeyShown):
    key = serializers.CharField(help_text="The key itself. It is never shown again.")


def _names() -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=100), max_length=100, required=False
    )


class KeyChange(Body):
    name = serializers.CharField(max_length=120, required=False)
    scopes = _names()
    allowed_ips = _names()
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class KeyBody(KeyChange):
    name = serializers.CharField(max_length=120)
    project = serializers.CharField(
        max_length=40, required=False, help_text="A project's id; without it, the oldest."
    )
    mode = serializers.ChoiceField(choices=MODES, required=False)


class RotateBody(Body):
    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(services.MAX_OVERLAP.total_seconds()),
        default=3600,
        help_text="How long the old key still works.",
    )


@extend_schema(tags=["keys"])
@extend_schema_view(
    list=extend_schema(summary="List the tenant's API keys"),
    retrieve=extend_schema(summary="Show an API key"),
)
class KeyViewSet(TenantResource):
    queryset = ApiKey.objects.select_related("project", "replaces")
    serializer_class = KeyShown
    lookup_url_kwarg = "key_id"
    lookup_value_regex = "key_[0-9A-Za-z]{12}"
    rule = Rule("manage:keys", write=BUILDERS)

    def get_object(self) -> ApiKey:
        public_id = self.kwargs["key_id"].removeprefix("key_")
        key: ApiKey = get_object_or_404(self.get_queryset(), public_id=public_id)
        return key

    @extend_schema(summary="Make an API key", request=KeyBody, responses={201: NewKeyShown})
    def create(self, request: Any) -> Response:
        self._slow_down()
        data = self.checked(KeyBody)
        check_grant(self.identity, data.get("scopes", ()))
        data["mode"] = Mode(data.get("mode", Mode.LIVE))
        data["project"] = self._project(data.get("project"))
        return _once(*services.create_key(**data))

    @extend_schema(summary="Change an API key", request=KeyChange)
    def partial_update(self, request: Any, key_id: str) -> Response:
        key, data = self.get_object(), self.checked(KeyChange)
        check_grant(self.identity, [*key.scopes, *data.get("scopes", ())])
        return self.shown(services.update_key(key=key, **data))

    @extend_schema(
        summary="Rotate an API key",
        description="Makes a key like it; the old one works for `overlap_seconds` more.",
        request=RotateBody,
        responses={201: NewKeyShown},
    )
    @action(detail=True, methods=["post"])
    def rotate(self, request: Any, key_id: str) -> Response:
        self._slow_down()
        key = self.get_object()
        check_grant(self.identity, key.scopes)
        overlap = dt.timedelta(seconds=self.checked(RotateBody)["overlap_seconds"])
        return _once(*services.rotate_key(key=key, overlap=overlap))

    @extend_schema(
        summary="Revoke an API key",
        description="Refused everywhere within a second, for ever.",
        request=None,
        responses={200: KeyShown},
    )
    @action(detail=True, methods=["post"])
    def revoke(self, request: Any, key_id: str) -> Response:
        return self.shown(services.revoke_key(key=self.get_object()))

    @extend_schema(summary="Revoke an API key", responses={204: None})
    def destroy(self, request: Any, key_id: str) -> Response:
        services.revoke_key(key=self.get_object())
        return Response(status=204)

    def _slow_down(self) -> None:
        tenant = self.identity.tenant_public_id
        slow_down(self.request, group="new-keys", rate=NEW_KEYS, tenant=tenant)

    def _project(self, public_id: str | None) -> Project:
        rows = Project.objects.filter(tenant=self.tenant).order_by("pk")
        if public_id is not None:
            rows = rows.filter(public_id=public_id)
        project: Project | None = rows.first()
        if project is None:
            fault = {"detail": "There is no such project.", "pointer": "/project"}
            raise InvalidRequest(
                "project: There is no such project.", status=422, param="project", errors=[fault]
            )
        return project


def check_grant(identity: Identity, scopes: Sequence[str]) -> None:
    """Nobody hands out, or takes over, rights beyond their own. Raises Forbidden.

    Owners and admins hold the tenant's rights, a key those it names; what reaches beyond one
    tenant only staff can give, in the admin.
    """
    wanted = {right for scope in scopes if is_right(scope) for right in rights_of(scope)}
    if identity.kind == "key":
        held = {right for scope in identity.scopes for right in rights_of(scope)}
    else:
        held = set(TENANT_RIGHTS) if identity.role in MANAGERS else set()
    if not wanted <= held:
        beyond = ", ".join(sorted(wanted - held))
        raise Forbidden(f"You cannot give or handle rights that you do not hold: {beyond}.")


def _once(key: ApiKey, text: str) -> Response:
    """The only answer that holds the key itself."""
    return Response({**KeyShown(key).data, "key": text}, status=201)
