"""Calls: the last ones, found by what one knows of them, and one call's whole story."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.db.models import Max, Sum
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from api.pacing import EXPORTS, slow_down
from api.v1 import exports
from lib.ids import is_uuid, moment_of
from lib.problems import Problem
from portal.modes import mode_of
from portal.page import Visit, page
from providers.operations import registry
from tenants.keys import Mode
from tenants.models import ApiKey
from usage.export import FOR_TENANTS
from usage.finding import begin_of_newest
from usage.models import UsageRecord
from usage.refusal_models import Refusal
from usage.waterfall import bars

PAGE = 50
MOST_KEYS = 200
TOLD_APART = ("operation", "provider", "model")
SPANS = {"1": "24 hours", "7": "7 days", "30": "30 days", "90": "90 days"}


@page()
def requests(visit: Visit) -> HttpResponse:
    query = visit.request.GET
    wanted = query.get("q", "").strip().lower()
    if is_uuid(wanted) and _record(visit, wanted):
        return visit.back_to("request", wanted)
    mode, keys = mode_of(visit), list(ApiKey.objects.of(visit.tenant).order_by("name")[:MOST_KEYS])
    rows = list(_found(visit, mode)[: PAGE + 1])
    context = {
        "records": rows[:PAGE],
        "older": _older(visit, rows[PAGE - 1]) if len(rows) > PAGE else "",
        "spans": SPANS,
        "operations": sorted(registry()),
        "keys": keys,
        "names": {key.pk: key.name for key in keys},
        "choice": query,
        "mode": mode.value,
        "refused": _refused(visit, mode),
        "missed": wanted,
        "is_id": is_uuid(wanted),
    }
    return visit.render("portal/requests.html", context)


def _found(visit: Visit, mode: Mode) -> Any:
    """The newest first. A page goes on where the last one ended, however many came since."""
    query, before = visit.request.GET, visit.request.GET.get("before", "")
    kind: dict[str, Any] = {"mode": mode}
    typed = {name: query.get(name, "").replace("\0", "").strip() for name in TOLD_APART}
    kind |= {name: text for name, text in typed.items() if text}
    if key_id := query.get("key"):
        kind["key_id__in"] = _key_ids(visit, key_id)
    rows = UsageRecord.objects.of_tenant(visit.tenant.pk).filter(**kind)
    if errors := query.get("outcome") == "error":
        rows = rows.exclude(code="ok")
    if is_uuid(before):
        rows = rows.filter(request_id__lt=before)
    begin = begin_of_newest(
        PAGE + 1,
        tenant_id=visit.tenant.pk,
        since=timezone.now() - dt.timedelta(days=_days(query)),
        before=moment_of(before) if is_uuid(before) else None,
        errors=errors,
        **kind,
    )
    return rows.filter(created_at__gte=begin).order_by("-created_at", "-request_id")


def _refused(visit: Visit, mode: Mode) -> Any:
    """What was not even tried, by reason, the latest first."""
    query = visit.request.GET
    since = timezone.now() - dt.timedelta(days=_days(query))
    rows = Refusal.objects.filter(
        tenant_id=visit.tenant.pk, mode=mode.value, starts__gte=since - dt.timedelta(hours=1)
    )
    if operation := query.get("operation", "").replace("\0", ""):
        rows = rows.filter(operation=operation)
    if key_id := query.get("key"):
        rows = rows.filter(key_id__in=_key_ids(visit, key_id))
    grouped = rows.values("code", "operation", "limit_name", "key_id").annotate(
        all=Sum("calls"), last=Max("last_at"), request=Max("last_request_id")
    )
    return grouped.order_by("-last", "code")[:PAGE]


def _days(query: Mapping[str, str]) -> int:
    return int(query["span"]) if query.get("span") in SPANS else 1


def _key_ids(visit: Visit, key_id: str) -> list[int]:
    rows = ApiKey.objects.of(visit.tenant).filter(public_id=key_id.removeprefix("key_"))
    return list(rows.values_list("pk", flat=True))


def _older(visit: Visit, last: UsageRecord) -> str:
    query = visit.request.GET.copy()
    query["before"] = last.request_id
    return str(query.urlencode())


@page()
def request(visit: Visit, request_id: str) -> HttpResponse:
    record = _record(visit, str(request_id))
    if record is None:
        raise Http404
    key = ApiKey.objects.of(visit.tenant).filter(pk=record.key_id or 0).first()
    context = {"record": record, "key": key, "bars": bars(record)}
    return visit.render("portal/request.html", context)


def _record(visit: Visit, request_id: str) -> UsageRecord | None:
    rows = UsageRecord.objects.of_tenant(visit.tenant.pk)
    return rows.filter(request_id=request_id).first()


@page()
def export(visit: Visit) -> HttpResponseBase:
    """The same rows as over the API: as CSV or JSON lines, in constant memory."""
    try:
        slow_down(visit.request, group="exports", rate=EXPORTS, tenant=visit.tenant.public_id)
        asked = visit.request.GET
        query = {name: text for name in asked if (text := asked.get(name, ""))}
        return exports.answer(query, FOR_TENANTS, visit.tenant.pk, visit.tenant.time_zone)
    except Problem as problem:
        context = {"detail": problem.detail}
        return visit.render("portal/wrong.html", context, status=problem.status)
