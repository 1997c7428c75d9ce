"""The admin's home: what is wrong now, how the day goes, and who called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.response import TemplateResponse

from api.dashboard import alerts, figures
from api.dashboard.leads import lead
from lib.problems import Unavailable
from tenants.keys import Mode

MAY_SEE = "usage.view_usageday"
COLOURS = ("#0d9488", "#6366f1", "#d97706", "#db2777", "#0284c7", "#65a30d", "#9ca3af")
INK = "#7f8a9a"  # of words in charts: to be read on a light page and on a dark one
CHARTS = (
    ("calls", "Calls an hour", "calls"),
    ("errors", "Errors an hour", "errors"),
    ("cost", "Cost an hour", "USD"),
)
_MICRO = 1_000_000


def add_figures(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's hook for the index page."""
    context["title"] = "Home"
    if request.user.has_perm(MAY_SEE):
        context |= _shown(request)
    return context


def live(request: HttpRequest) -> HttpResponse:
    """The part of the page that renews itself. Raises PermissionDenied."""
    if not request.user.has_perm(MAY_SEE):
        raise PermissionDenied
    return render(request, "api/home_figures.html", _shown(request))


def all_alerts(request: HttpRequest) -> TemplateResponse:
    """What is wrong, as a page of its own. Raises PermissionDenied."""
    if not request.user.has_perm(MAY_SEE):
        raise PermissionDenied
    context = {**admin.site.each_context(request), "title": "What is wrong now"}
    return TemplateResponse(request, "api/alerts.html", context | {"alerts": _alerts()})


def _shown(request: HttpRequest) -> dict[str, Any]:
    mode = Mode.TEST if request.GET.get("mode") == Mode.TEST else Mode.LIVE
    try:
        spans = figures.overview(mode=mode)
        by_provider, by_tenant = (figures.lines(by, mode=mode) for by in ("provider", "tenant"))
    except Unavailable as problem:
        return {"fault": problem.detail}
    return {
        "mode": mode.value,
        "alerts": _alerts(),
        "cards": cards(**spans),
        "charts": [*charts(by_provider, "provider"), *charts(by_tenant, "tenant")],
    }


def _alerts() -> list[dict[str, Any]]:
    return [
        {**alert.told(), "what": alert.code.replace("_", " "), "lead": lead(alert)}
        for alert in alerts.of_service()
    ]


def cards(
    today: Mapping[str, Any], yesterday: Mapping[str, Any], week: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Each: its name, what it is today, the 24 hours before, and on a day of the week."""
    latency = [span["latency_ms"] for span in (today, yesterday, week)]
    money = [(span["cost_microusd"], span["revenue_microusd"]) for span in (today, yesterday)]
    week_money = [round(week[name] / 7) for name in ("cost_microusd", "revenue_microusd")]
    return [
        _card("Calls", [_count(n) for n in (today["calls"], yesterday["calls"], _daily(week))])
        | {"change": _change(today["calls"], yesterday["calls"]), "daily": True},
        _card("Errors", [_share(span["error_rate"]) for span in (today, yesterday, week)]),
        *(_card(name, [_ms(of[name]) for of in latency]) for name in ("p50", "p95", "p99")),
        _card("Cost", [_usd(n) for n in (money[0][0], money[1][0], week_money[0])])
        | {"change": _change(money[0][0], money[1][0]), "daily": True},
        _card("Revenue", [_usd(n) for n in (money[0][1], money[1][1], week_money[1])])
        | {"daily": True},
        _card("Cache hits", [_share(span["cache_hit_ratio"]) for span in (today, yesterday, week)]),
    ]


def _card(name: str, values: list[str]) -> dict[str, Any]:
    return dict(zip(("name", "today", "yesterday", "week"), (name, *values), strict=True))


def _daily(week: Mapping[str, int]) -> int:
    return round(week["calls"] / 7)


def _count(number: int) -> str:
    return f"{number:,}"


def _share(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1%}"


def _ms(value: int | None) -> str:
    return "–" if value is None else f"{value:,} ms"


def _usd(microusd: int) -> str:
    return f"${microusd / _MICRO:,.2f}"


def _change(now: int, before: int) -> str:
    return f"{(now - before) / before:+.0%}" if before else ""


def charts(told: Mapping[str, Any], by: str) -> list[dict[str, Any]]:
    return [
        {
            "title": f"{title}, by {by}",
            "type": "line" if name == "calls" else "bar",
            "data": json.dumps(_data(told, name)),
            "options": json.dumps(_options(unit)),
            "has": any(any(line[name]) for line in told["lines"]),
        }
        for name, title, unit in CHARTS
    ]


def _data(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {
        "labels": [hour[11:16] for hour in told["hours"]],
        "datasets": [
            {
                "label": line["name"],
                "data": [n / _MICRO for n in line[name]] if name == "cost" else line[name],
                "borderColor": colour,
                "backgroundColor": colour,
            }
            for line, colour in zip(told["lines"], COLOURS, strict=False)
        ],
    }


def _options(unit: str) -> dict[str, Any]:
    def axis(text: str) -> dict[str, Any]:
        return {
            "title": {"display": True, "text": text, "color": INK},
            "ticks": {"color": INK},
            "stacked": unit != "calls",
        }

    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "pointRadius": 0,
        "borderWidth": 2,
        "scales": {"x": axis("hour until, UTC"), "y": axis(unit) | {"beginAtZero": True}},
        "plugins": {"legend": {"position": "bottom", "labels": {"boxWidth": 12, "color": INK}}},
    }
