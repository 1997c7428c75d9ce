"""How the tenant does: what needs attention, the day, the week, and the month so far."""

from __future__ import annotations

import json

from django.http import HttpResponse

from api.dashboard import alerts, figures
from portal.modes import mode_of
from portal.page import Visit, page
from portal.spending import forecast
from portal.usage import chart_of, told_of

WEEK = 6  # days and today


@page()
def overview(visit: Visit) -> HttpResponse:
    mode = mode_of(visit)
    spans = figures.overview(visit.tenant.pk, mode)
    told, question = told_of(visit.tenant, "day", mode, days=WEEK)
    context = {
        "alerts": [alert.told() for alert in alerts.of_tenant(visit.tenant)],
        "mode": mode.value,
        "spans": {name: figures.without_cost(span) for name, span in spans.items()},
        "forecast": forecast(visit.tenant, mode),
        "calls": told["totals"]["calls"],
        "chart": json.dumps(chart_of(visit.tenant, told, question)),
    }
    return visit.render("portal/overview.html", context)
