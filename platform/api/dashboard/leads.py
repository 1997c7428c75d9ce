"""Where in the admin one sees to what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from django.urls import reverse

from api.dashboard.alerts import Alert

_LISTS: Mapping[str, str] = {
    "breaker": "admin:providers_provider_changelist",
    "provider": "admin:providers_provider_changelist",
    "credential": "admin:providers_credential_changelist",
    "model": "admin:providers_model_changelist",
    "route": "admin:providers_route_changelist",
    "quota": "admin:tenants_tenant_changelist",
}
_OF_PROVIDERS = "provider-"  # begins the name of a quota of theirs


def lead(alert: Alert) -> str:
    """The address of its page, or of the list that has its row; "" where there is none."""
    if alert.code == "provider_drift":
        return reverse("definitions", args=[alert.subject])
    kind = alert.code.partition("_")[0]
    if kind == "quota" and f" {_OF_PROVIDERS}" in alert.subject:
        kind = "provider"
    if kind not in _LISTS:
        return ""
    return f"{reverse(_LISTS[kind])}?{urlencode({'q': _sought(kind, alert.subject)})}"


def _sought(kind: str, subject: str) -> str:
    """What finds the row: a breaker may be a model's, and a quota is named after whose it is."""
    if kind in {"credential", "model", "route"}:
        return subject.replace("/", " ")
    return subject.partition(" ")[0].partition("/")[0]
