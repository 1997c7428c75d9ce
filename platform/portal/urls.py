"""Mounted at /app/."""

from __future__ import annotations

from django.urls import URLPattern, path, register_converter

from portal import keys, overview, session, usage

app_name = "portal"


class KeyId:
    regex = "key_[0-9A-Za-z]{12}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(KeyId, "key_id")

urlpatterns: list[URLPattern] = [
    path("", session.choose, name="choose"),
    path("sign-in/", session.sign_in, name="sign-in"),
    path("sign-out/", session.sign_out, name="sign-out"),
    path("<slug:slug>/", overview.overview, name="overview"),
    path("<slug:slug>/usage/", usage.usage, name="usage"),
    path("<slug:slug>/keys/", keys.keys, name="keys"),
    path("<slug:slug>/keys/<key_id:key_id>/", keys.key, name="key"),
    path("<slug:slug>/keys/<key_id:key_id>/rotate/", keys.rotate, name="key-rotate"),
    path("<slug:slug>/keys/<key_id:key_id>/revoke/", keys.revoke, name="key-revoke"),
]
