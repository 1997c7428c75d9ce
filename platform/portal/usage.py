"""What was used: by time, project, key, operation, provider or model; as a file too."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from api.v1.usage import Question, Usage, answer, shown, times, understood
from lib.problems import InvalidRequest
from portal.modes import unasked
from portal.page import Visit, page
from portal.spending import forecast
from tenants.models import ApiKey, Tenant
from usage.export import inert

SPANS = {"1": "24 hours", "7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
GROUPS = Usage.groups
MOST_BARS = 20
NOTHING = {"calls": 0, "errors": 0}  # what a picture shows of each
COLUMNS = (
    *("calls", "errors", "cache_hits", "input_tokens", "output_tokens", "units", "charge_usd"),
)


@page()
def usage(visit: Visit) -> HttpResponse:
    try:
        choice = _choice(visit)
        told, question = told_of(
            visit.tenant, choice["by"], choice["mode"], days=int(choice["span"])
        )
    except InvalidRequest as problem:
        return visit.render("portal/wrong.html", {"detail": problem.detail}, status=400)
    if visit.request.GET.get("format") == "csv":
        return _as_csv(told, choice)
    names = _names(told, choice["by"])
    context = {
        "told": told,
        "rows": list(zip(names, told["data"], strict=True)),
        "choice": choice,
        "spans": SPANS,
        "groups": GROUPS,
        "chart": json.dumps(chart_of(visit.tenant, told, question)),
        "forecast": forecast(visit.tenant, choice["mode"]),
        "query": _query(visit.request),
    }
    return visit.render("portal/usage.html", context)


def _choice(visit: Visit) -> dict[str, str]:
    """Raises InvalidRequest."""
    query = visit.request.GET
    choice = {
        "span": query.get("span", "30"),
        "by": query.get("by", "day"),
        "mode": query.get("mode") or unasked(visit.tenant).value,
    }
    if choice["span"] not in SPANS:
        raise InvalidRequest(f"span: one of {', '.join(SPANS)}.")
    if choice["by"] not in GROUPS:
        raise InvalidRequest(f"by: one of {', '.join(GROUPS)}.")
    return choice


def told_of(tenant: Tenant, by: str, mode: str, *, days: int) -> tuple[dict[str, Any], Question]:
    """What was used in so many days, in the order of time or what costs most first, and as what
    the question was understood. Raises InvalidRequest."""
    asked = {"group_by": by, "mode": mode}
    question = understood(asked, GROUPS, tenant.time_zone, days=days)
    told = answer(question, tenant.pk, shown)
    if not question.window:
        told["data"].sort(key=lambda row: (-row["charge_microusd"], -row["calls"]))
    return told, question


def _names(told: Mapping[str, Any], by: str) -> list[str]:
    """What each row is of, as people call it."""
    if by == "project":
        return [str(row["project_slug"] or "none") for row in told["data"]]
    names = [str(row[by] or "none") for row in told["data"]]
    return _names_of_keys(names) if by == "key" else names


def _names_of_keys(key_ids: list[str]) -> list[str]:
    """Their names; the ids too, for names may be the same."""
    ids = [key_id.removeprefix("key_") for key_id in key_ids]
    rows = ApiKey.objects.filter(public_id__in=ids).values_list("public_id", "name")
    called = {f"key_{public_id}": f"{name} (key_{public_id})" for public_id, name in rows}
    return [called.get(key_id, key_id) for key_id in key_ids]


def chart_of(tenant: Tenant, told: Mapping[str, Any], question: Question) -> dict[str, Any]:
    """Calls and errors: over time also where there were none, else of those that cost most."""
    (by,) = question.by
    rows, labels = told["data"], _names(told, by)
    if question.window:
        known, labels = dict(zip(labels, rows, strict=True)), times(question)
        rows = [known.get(label, NOTHING) for label in labels]
    else:
        rows, labels = rows[:MOST_BARS], labels[:MOST_BARS]
    return {
        "type": "line" if question.window else "bar",
        "labels": labels,
        "series": [{"label": name, "data": [row[name] for row in rows]} for name in NOTHING],
        "x": f"{by}, the {MOST_BARS} that cost most" if len(told["data"]) > len(labels) else by,
        "y": "calls",
        "locale": tenant.locale,
    }


def _as_csv(told: Mapping[str, Any], choice: Mapping[str, str]) -> HttpResponse:
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"usage-by-{choice['by']}-{choice['span']}-days.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    file = csv.writer(answer)
    file.writerow([choice["by"], *COLUMNS, "p50_ms", "p95_ms", "p99_ms"])
    for name, row in zip(_names(told, choice["by"]), told["data"], strict=True):
        latency = [row["latency_ms"][share] for share in ("p50", "p95", "p99")]
        file.writerow([inert(name), *(row[column] for column in COLUMNS), *latency])
    return answer


def _query(request: HttpRequest) -> str:
    query = request.GET.copy()
    query["format"] = "csv"
    return query.urlencode()
