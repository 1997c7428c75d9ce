"""The admin's looks: its colours, which environment this is, and where everything is."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse_lazy

# Teal, so that nobody takes it for another admin; from its lightest shade to its darkest.
PRIMARY: Final[dict[str, str]] = {
    "50": "oklch(98.4% .014 180.7)",
    "100": "oklch(95.3% .051 180.8)",
    "200": "oklch(91% .096 180.4)",
    "300": "oklch(85.5% .138 181.1)",
    "400": "oklch(77.7% .152 181.9)",
    "500": "oklch(70.4% .14 182.5)",
    "600": "oklch(51.1% .096 186.4)",
    "700": "oklch(43.7% .078 188.2)",
    "800": "oklch(38.6% .063 188.4)",
    "900": "oklch(33.2% .052 189)",
    "950": "oklch(27.7% .046 192.5)",
}
_BADGES: Final = {"prod": "danger", "staging": "warning"}

# What is shown at the side: (title, icon, a model), or a page of ours (…, where, its permission).
_SIDE: Final[tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]] = (
    (
        "Now",
        (
            ("Home", "monitoring", "admin:index", ""),
            ("What is wrong", "notification_important", "alerts", "usage.view_usageday"),
            ("Targets' scores", "speed", "targets-scores", "providers.view_target"),
            ("Cache", "cached", "cache", "providers.view_route"),
        ),
    ),
    (
        "Switchboard",
        (
            ("Providers", "cable", "providers.provider"),
            ("Definitions", "draft", "definitions-index", "providers.view_definition"),
            ("Credentials", "key_vertical", "providers.credential"),
            ("Models", "neurology", "providers.model"),
            ("Routes", "alt_route", "providers.route"),
            ("Breaker overrides", "electrical_services", "providers.breakeroverride"),
            ("Warm requests", "mode_heat", "providers.warmrequest"),
            ("Operations", "api", "providers.operation"),
        ),
    ),
    (
        "Tenants",
        (
            ("Tenants", "domain", "tenants.tenant"),
            ("Projects", "folder", "tenants.project"),
            ("API keys", "key", "tenants.apikey"),
            ("Members", "group", "accounts.membership"),
        ),
    ),
    (
        "Usage and money",
        (
            ("Requests", "receipt_long", "usage.usagerecord"),
            ("Export", "download", "export", "usage.view_usagerecord"),
            ("Plans", "sell", "tenants.plan"),
            ("Prices", "payments", "billing.price"),
            ("House policy", "policy", "tenants.housepolicy"),
        ),
    ),
    (
        "Staff",
        (
            ("People", "person", "accounts.user"),
            ("Roles", "badge", "auth.group"),
            ("Lockouts", "lock_person", "axes.accessattempt"),
            ("Audit log", "history", "lib.auditentry"),
        ),
    ),
)


def environment(_request: HttpRequest) -> list[str]:
    """The badge at the top: production must not be taken for anything else."""
    name = settings.ENV.ENVIRONMENT
    return [name, _BADGES.get(name, "info")]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The side bar, of what this person may see."""
    return [
        {"title": title, "separator": True, "items": items}
        for title, entries in _SIDE
        if (items := [item for entry in entries if (item := _item(request, *entry))])
    ]


def _item(
    request: HttpRequest, title: str, icon: str, where: str, permission: str | None = None
) -> dict[str, Any] | None:
    """None for who may not see it."""
    if permission is None:  # a model's list
        app, _, model = where.partition(".")
        where, permission = f"admin:{app}_{model}_changelist", f"{app}.view_{model}"
    if permission and not request.user.has_perm(permission):
        return None
    return {"title": title, "icon": icon, "link": reverse_lazy(where)}
