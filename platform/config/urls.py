"""Django's side of the house; the data path is chosen before it, in config/asgi.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from api.pacing import paced_sign_in

urlpatterns = [
    path("admin/login/", paced_sign_in(admin.site.login)),
    path("admin/", admin.site.urls),
    path("", include("api.urls")),
]
