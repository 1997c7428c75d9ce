"""Which operations can be called just now, and by how many of their providers."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from django.db.models import Q
from django.http import HttpResponse

from api.console.standing import states
from api.v1.catalogue import serving
from portal.page import Visit, page
from providers.breaker import State
from providers.models import Credential
from providers.models import Operation as OperationRow
from providers.operations import registry
from tenants.models import Tenant

LET_CALLS_THROUGH = {State.CLOSED, State.DISABLED}


@page()
def status(visit: Visit) -> HttpResponse:
    """Each operation, and whether it can be called."""
    by_operation, accepted = serving(), _credentials(visit.tenant)
    off = set(OperationRow.objects.filter(enabled=False).values_list("name", flat=True))
    resting = {name for name, state in states().items() if state not in LET_CALLS_THROUGH}
    rows = []
    for name, operation in sorted(registry().items()):
        told = _standing(by_operation[name], accepted, resting)
        if name in off:
            told["state"] = "switched off"
        rows.append({"name": name, "summary": operation.summary, **told})
    troubled = sum(row["state"] in {"degraded", "down"} for row in rows)
    return visit.render("portal/status.html", {"rows": rows, "troubled": troubled})


def _credentials(tenant: Tenant) -> dict[str, bool]:
    """For which providers there are some that this tenant's calls may use, and whether one of
    them is not refused."""
    usable = Credential.objects.filter(Q(tenant=None) | Q(tenant=tenant), enabled=True)
    found: dict[str, bool] = {}
    for slug, drained_at in usable.values_list("provider__slug", "drained_at"):
        found[slug] = found.get(slug, False) or drained_at is None
    return found


def _standing(
    providers: list[dict[str, str]], accepted: Mapping[str, bool], resting: Set[str]
) -> dict[str, Any]:
    named = {each["slug"]: each["status"] for each in providers}
    set_up = [slug for slug, status in named.items() if status == "ready" or slug in accepted]
    well = [slug for slug in set_up if slug not in resting and accepted.get(slug, True)]
    state = "sandbox only" if not set_up else "down" if not well else "ok"
    if well and len(well) < len(set_up):
        state = "degraded"
    return {"providers": len(named), "ready": len(well), "state": state}
