"""Django's side of the house; the data path is chosen before it, in config/asgi.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from api.console.tenants import export
from api.dashboard import home
from api.internal.cache_page import page as cache_page
from api.internal.definitions_page import PAGES
from api.internal.scores import page as scores_page
from api.pacing import paced_sign_in

admin.autodiscover()

urlpatterns = [
    path("admin/login/", paced_sign_in(admin.site.login)),
    path("admin/figures/", admin.site.admin_view(home.live), name="home-figures"),
    path("admin/alerts/", admin.site.admin_view(home.all_alerts), name="alerts"),
    path("admin/export/", admin.site.admin_view(export), name="export"),
    path("admin/cache/", admin.site.admin_view(cache_page), name="cache"),
    path("admin/scores/", admin.site.admin_view(scores_page), name="targets-scores"),
    *(path(where, admin.site.admin_view(page), name=name) for where, page, name in PAGES),
    path("admin/", admin.site.urls),
    path("app/", include("portal.urls")),
    path("", include("api.urls")),
]
