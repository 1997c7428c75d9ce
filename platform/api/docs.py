"""The schema, and pages to read it: all from this server, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from csp.constants import SELF
from csp.decorators import csp_update
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.views.decorators.http import require_safe
from django.views.generic import TemplateView
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
)
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import schema
from api.authentication import PatchbayAuthentication
from api.error_catalogue import EXPLAINED
from api.permissions import identity_of
from lib.problems import TITLES, Forbidden

_SIDECAR = "drf_spectacular_sidecar"


class Schema(APIView):
    """OpenAPI 3.1 of version 1."""

    authentication_classes: list[Any] = []
    permission_classes = [AllowAny]
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        return Response(schema.public_document())


class InternalSchema(APIView):
    """OpenAPI 3.1 of the management API: for staff, by token or signed in to the admin."""

    authentication_classes = [PatchbayAuthentication, SessionAuthentication]
    permission_classes = [AllowAny]
    renderer_classes = Schema.renderer_classes

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        if not (request.auth is None and request.user.is_staff):
            identity = identity_of(request)
            if not (identity.is_staff or identity.may("internal:read")):
                raise Forbidden("Only staff may do this.")
        return Response(schema.internal_document())


class Swagger(TemplateView):
    """Swagger UI."""

    template_name = "api/swagger.html"
    schema_name = "schema"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            "schema_url": reverse(self.schema_name),
            "styles": static(f"{_SIDECAR}/swagger-ui-dist/swagger-ui.css"),
            "bundle": static(f"{_SIDECAR}/swagger-ui-dist/swagger-ui-bundle.js"),
        }


class InternalSwagger(Swagger):
    schema_name = "internal-schema"


internal_docs = staff_member_required(InternalSwagger.as_view())


@method_decorator(csp_update({"worker-src": [SELF, "blob:"]}), name="dispatch")
class ReDoc(TemplateView):
    """ReDoc, whose search is a worker that it makes itself."""

    template_name = "api/redoc.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            "schema_url": reverse("schema"),
            "bundle": static(f"{_SIDECAR}/redoc/bundles/redoc.standalone.js"),
        }


@require_safe
def errors(request: HttpRequest) -> HttpResponse:
    """Every problem code: why it comes, what to do, whether to try again."""
    codes = []
    for code, title in TITLES.items():
        explained = EXPLAINED[code]
        texts = with_code(explained.cause), with_code(explained.fix)
        codes.append((code, title, explained, *texts))
    return render(request, "api/errors.html", {"codes": codes})


def with_code(text: str) -> str:
    """As HTML, with what stands between backticks as code."""
    parts = text.split("`")
    shown = [format_html("<code>{}</code>", p) if n % 2 else p for n, p in enumerate(parts)]
    return format_html_join("", "{}", ((part,) for part in shown))
