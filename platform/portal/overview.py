"""How the tenant does: what needs attention, the day, and the month so far."""

from __future__ import annotations

from django.http import HttpResponse

from api.dashboard import alerts, figures
from portal.page import Visit, page
from portal.spending import forecast


@page()
def overview(visit: Visit) -> HttpResponse:
    spans = {
        name: figures.without_cost(told) for name, told in figures.overview(visit.tenant.pk).items()
    }
    context = {
        "alerts": [alert.told() for alert in alerts.of_tenant(visit.tenant)],
        "spans": spans,
        "forecast": forecast(visit.tenant),
    }
    return visit.render("portal/overview.html", context)
