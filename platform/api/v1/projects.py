"""Projects: the parts of a tenant that have keys and usage of their own."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.response import Response

from api.permissions import BUILDERS, Rule
from api.resources import TenantResource
from api.serializers import Body, Shown
from tenants import services
from tenants.models import Project


class ProjectShown(Shown):
    id = serializers.CharField(source="public_id")
    slug = serializers.CharField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()


class ProjectBody(Body):
    slug = serializers.SlugField(max_length=63)
    name = serializers.CharField(max_length=120, required=False)


class ProjectChange(Body):
    name = serializers.CharField(max_length=120, required=False)


@extend_schema(tags=["projects"])
@extend_schema_view(
    list=extend_schema(summary="List the tenant's projects"),
    retrieve=extend_schema(summary="Show a project"),
)
class ProjectViewSet(TenantResource):
    queryset = Project.objects.all()
    serializer_class = ProjectShown
    lookup_value_regex = "prj_[0-9a-z]{26}"
    rule = Rule("manage:projects", write=BUILDERS)

    @extend_schema(summary="Make a project", request=ProjectBody, responses={201: ProjectShown})
    def create(self, request: Any) -> Response:
        project = services.create_project(tenant=self.tenant, **self.checked(ProjectBody))
        return self.shown(project, 201)

    @extend_schema(summary="Rename a project", request=ProjectChange)
    def partial_update(self, request: Any, public_id: str) -> Response:
        changes = self.checked(ProjectChange)
        return self.shown(services.update_project(project=self.get_object(), **changes))

    @extend_schema(
        summary="Delete a project",
        description="Refused while it has a key that is not revoked. Its usage records stay.",
        responses={204: None},
    )
    def destroy(self, request: Any, public_id: str) -> Response:
        services.delete_project(project=self.get_object())
        return Response(status=204)
