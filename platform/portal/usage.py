"""What was used: by time, project, key, operation, provider or model; as a file too."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from api.v1.usage import Usage, answer, shown, understood
from lib.problems import InvalidRequest
from portal.page import Visit, page
from portal.spending import forecast
from usage.export import inert

SPANS = {"1": "24 hours", "7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
GROUPS = Usage.groups
COLUMNS = (
    *("calls", "errors", "cache_hits", "input_tokens", "output_tokens", "units", "charge_usd"),
)


@page()
def usage(visit: Visit) -> HttpResponse:
    try:
        told, choice = _told(visit)
    except InvalidRequest as problem:
        return visit.render("portal/wrong.html", {"detail": problem.detail}, status=400)
    if visit.request.GET.get("format") == "csv":
        return _as_csv(told, choice)
    context = {
        "told": told,
        "rows": [(_name(row, choice["by"]), row) for row in told["data"]],
        "choice": choice,
        "spans": SPANS,
        "groups": GROUPS,
        "chart": json.dumps({**_chart(told, choice["by"]), "locale": visit.tenant.locale}),
        "forecast": forecast(visit.tenant, choice["mode"]),
        "query": _query(visit.request),
    }
    return visit.render("portal/usage.html", context)


def _told(visit: Visit) -> tuple[dict[str, Any], dict[str, str]]:
    """Raises InvalidRequest."""
    query = visit.request.GET
    choice = {
        "span": query.get("span", "30"),
        "by": query.get("by", "day"),
        "mode": query.get("mode", "live"),
    }
    if choice["span"] not in SPANS:
        raise InvalidRequest(f"span: one of {', '.join(SPANS)}.")
    asked = {"group_by": choice["by"], "mode": choice["mode"]}
    question = understood(asked, GROUPS, visit.tenant.time_zone, days=int(choice["span"]))
    return answer(question, visit.tenant.pk, shown), choice


def _name(row: Mapping[str, Any], by: str) -> str:
    if by == "project":
        return str(row["project_slug"] or "none")
    return str(row[by] or "none")


def _chart(told: Mapping[str, Any], by: str) -> dict[str, Any]:
    names = [_name(row, by) for row in told["data"]]
    return {
        "type": "line" if by in {"day", "hour"} else "bar",
        "labels": names,
        "series": [
            {"label": "calls", "data": [row["calls"] for row in told["data"]]},
            {"label": "errors", "data": [row["errors"] for row in told["data"]]},
        ],
        "x": by,
        "y": "calls",
    }


def _as_csv(told: Mapping[str, Any], choice: Mapping[str, str]) -> HttpResponse:
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"usage-by-{choice['by']}-{choice['span']}-days.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    file = csv.writer(answer)
    file.writerow([choice["by"], *COLUMNS, "p50_ms", "p95_ms", "p99_ms"])
    for row in told["data"]:
        latency = [row["latency_ms"][name] for name in ("p50", "p95", "p99")]
        file.writerow([inert(_name(row, choice["by"])), *(row[c] for c in COLUMNS), *latency])
    return answer


def _query(request: HttpRequest) -> str:
    query = request.GET.copy()
    query["format"] = "csv"
    return query.urlencode()
