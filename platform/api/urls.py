"""Everything Django answers besides the admin. The data path's own paths never get here."""

from __future__ import annotations

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from api import docs
from api.internal import urls as internal
from api.v1 import urls as v1

internal_urls: list[URLPattern | URLResolver] = [
    path("v1/", include((internal.urlpatterns, "internal"))),
    path("schema", docs.InternalSchema.as_view(), name="internal-schema"),
    path("docs", docs.internal_docs, name="internal-docs"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/schema", docs.Schema.as_view(), name="schema"),
    path("api/schema", docs.Schema.as_view(), name="schema-alias"),
    path("api/v1/", include((v1.urlpatterns, "v1"))),
    path("api/", include((v1.urlpatterns, "v1"), namespace="unversioned")),
    path("", RedirectView.as_view(pattern_name="docs")),
    path("docs", docs.Swagger.as_view(), name="docs"),
    path("redoc", docs.ReDoc.as_view(), name="redoc"),
    path("docs/errors", docs.errors, name="docs-errors"),
]
if settings.ENV.INTERNAL_API:
    urlpatterns.append(path("internal/", include(internal_urls)))
