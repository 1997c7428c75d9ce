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

# What is shown at the side: (title, icon, where, the permission that it needs).
_SIDE: Final = (
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
            (
                "Providers",
                "cable",
                "admin:providers_provider_changelist",
                "providers.view_provider",
            ),
            (
                "Definitions",
                "draft",
                "definitions-index",
                "providers.view_definition",
            ),
            (
                "Credentials",
                "key_vertical",
                "admin:providers_credential_changelist",
                "providers.view_credential",
            ),
            ("Models", "neurology", "admin:providers_model_changelist", "providers.view_model"),
            ("Routes", "alt_route", "admin:providers_route_changelist", "providers.view_route"),
            (
                "Warm requests",
                "mode_heat",
                "admin:providers_warmrequest_changelist",
                "providers.view_warmrequest",
            ),
            (
                "Operations",
                "api",
                "admin:providers_operation_changelist",
                "providers.view_operation",
            ),
        ),
    ),
    (
        "Tenants",
        (
            ("Tenants", "domain", "admin:tenants_tenant_changelist", "tenants.view_tenant"),
            ("Projects", "folder", "admin:tenants_project_changelist", "tenants.view_project"),
            ("API keys", "key", "admin:tenants_apikey_changelist", "tenants.view_apikey"),
            (
                "Members",
                "group",
                "admin:accounts_membership_changelist",
                "accounts.view_membership",
            ),
        ),
    ),
    (
        "Usage and money",
        (
            (
                "Requests",
                "receipt_long",
                "admin:usage_usagerecord_changelist",
                "usage.view_usagerecord",
            ),
            ("Export", "download", "export", "usage.view_usagerecord"),
            ("Plans", "sell", "admin:tenants_plan_changelist", "tenants.view_plan"),
            ("Prices", "payments", "admin:billing_price_changelist", "billing.view_price"),
            (
                "House policy",
                "policy",
                "admin:tenants_housepolicy_changelist",
                "tenants.view_housepolicy",
            ),
        ),
    ),
    (
        "Staff",
        (
            ("People", "person", "admin:accounts_user_changelist", "accounts.view_user"),
            ("Roles", "badge", "admin:auth_group_changelist", "auth.view_group"),
            ("Audit log", "history", "admin:lib_auditentry_changelist", "lib.view_auditentry"),
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
        if (items := [_item(*entry) for entry in entries if _may(request, entry[3])])
    ]


def _item(title: str, icon: str, where: str, _: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(where)}


def _may(request: HttpRequest, permission: str) -> bool:
    return not permission or request.user.has_perm(permission)
