"""The file's `warm`: requests whose answers the cache is to have at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.configuration.document import Place
from api.configuration.run import Run
from providers.warm_models import WarmRequest
from tenants.models import Tenant

FIELDS = ("operation", "params", "every", "enabled")


def apply_warm(run: Run, item: Mapping[str, Any], place: Place) -> None:
    name = item["name"]
    row = WarmRequest.objects.filter(name=name, provider=None).first()
    if row is None:
        if "operation" not in item:
            raise run.fault(place, f"`operation` is missing: {name} is new.")
        row = WarmRequest(name=name)
    values = {field: item[field] for field in FIELDS if field in item}
    if "tenant" in item:
        values["tenant_id"] = _tenant(run, item["tenant"], place)
    run.put(row, values, what=f"warm request {name}", place=place)


def _tenant(run: Run, slug: str | None, place: Place) -> int | None:
    if slug is None:
        return None
    tenant: Tenant | None = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise run.fault((*place, "tenant"), f"There is no tenant {slug}.")
    return tenant.pk
