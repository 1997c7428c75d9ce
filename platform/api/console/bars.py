"""A quota as a bar: how much of it is used, and how much calls under way have reserved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.dashboard.alerts import span
from lib.money import to_usd
from tenants.quotas import Metric


def bar(standing: Mapping[str, Any]) -> dict[str, Any]:
    """A quota as it stands (api.v1.quotas), with the widths of its bar's two parts, in per cent,
    and its amounts for people."""
    limit = max(1, standing["limit"])
    used = min(100, 100 * standing["used"] // limit)
    reserved = min(100 - used, 100 * standing["reserved"] // limit)
    is_cost = standing["metric"] == Metric.COST
    told = {
        f"{name}_told": f"${to_usd(standing[name])}" if is_cost else f"{standing[name]:,}"
        for name in ("limit", "used", "reserved")
    }
    lasts = span(standing["days_left"]) if standing["days_left"] else ""
    return {**standing, "used_percent": used, "reserved_percent": reserved, "lasts": lasts, **told}
