"""What staff may do in the admin, as four groups that ship with Patchbay.

viewer    sees everything, changes nothing
operator  turns the switchboard: providers, credentials, routes, breakers, tenants' keys
billing   plans, prices, and what tenants are on
admin     everything, people included

They are ours: each load brings them to what this file says. For other powers make other groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

from django.contrib.auth.models import Group, Permission

OURS: Final = ("tenants", "accounts", "providers", "usage", "billing", "lib", "auth", "axes")

# What a role may write besides seeing all: app.model, or app.* for all of them.
ROLES: Final[Mapping[str, Set[str]]] = {
    "viewer": frozenset(),
    "operator": frozenset({"providers.*", "tenants.apikey", "tenants.project", "tenants.tenant"}),
    "billing": frozenset({"billing.*", "tenants.plan", "tenants.tenant"}),
    "admin": frozenset(f"{app}.*" for app in OURS),
}


def bring() -> list[str]:
    """Make the groups what they should be; the names of those that were not."""
    known = list(
        Permission.objects.filter(content_type__app_label__in=OURS).select_related("content_type")
    )
    held = {
        name: set(Permission.objects.filter(group__name=name).values_list("pk", flat=True))
        for name in ROLES
    }
    changed = []
    for name, writes in ROLES.items():
        wanted = {permission.pk for permission in known if _may(permission, writes)}
        group, made = Group.objects.get_or_create(name=name)
        if made or held[name] != wanted:
            group.permissions.set(wanted)
            changed.append(name)
    return changed


def _may(permission: Permission, writes: Set[str]) -> bool:
    kind = permission.content_type
    verb, _, _ = permission.codename.partition("_")
    if verb == "view":
        return True
    return bool({f"{kind.app_label}.{kind.model}", f"{kind.app_label}.*"} & writes)
