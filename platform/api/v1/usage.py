"""What a tenant used, in groups, from the ledger's roll-ups."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.permissions import identity_of
from api.serializers import Shown
from lib.money import to_usd
from lib.problems import Forbidden, InvalidRequest
from tenants.keys import Mode
from tenants.models import ApiKey, Project, Tenant
from tenants.windows import Period, Window, period
from usage.summaries import TooManyGroups, latencies, summarize, total

MOST_GROUPS = 10_000
LONGEST = {"hour": 31, "day": 366, "": 366}  # days, by what time is grouped in
SHOWN_AS_THEY_ARE = ("operation", "provider", "model")
COUNTS = (
    "calls",
    "errors",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "units",
    "bytes",
)


class LatencyShown(Shown):
    mean = serializers.IntegerField(allow_null=True)
    p50 = serializers.IntegerField(allow_null=True)
    p95 = serializers.IntegerField(allow_null=True)
    p99 = serializers.IntegerField(allow_null=True)


class SumsShown(Shown):
    calls = serializers.IntegerField()
    errors = serializers.IntegerField(  # type: ignore[assignment]  # a field of that name
        help_text="Calls whose code is not ok."
    )
    cache_hits = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    reasoning_tokens = serializers.IntegerField()
    units = serializers.IntegerField()
    bytes = serializers.IntegerField()
    charge_microusd = serializers.IntegerField(
        help_text="As charged when the calls were made; later corrections are not in it."
    )
    charge_usd = serializers.CharField()
    latency_ms = LatencyShown(
        help_text="Percentiles are interpolated in a histogram whose last bound is 30000 ms."
    )


class GroupShown(SumsShown):
    day = serializers.DateField(required=False)
    hour = serializers.DateTimeField(required=False)
    project = serializers.CharField(required=False, allow_null=True)
    project_slug = serializers.CharField(required=False, allow_null=True)
    key = serializers.CharField(required=False, allow_null=True)
    operation = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)


class SummaryShown(Shown):
    data = GroupShown(many=True)  # type: ignore[assignment]  # a field, not Serializer.data
    totals = SumsShown()
    time_zone = serializers.CharField()

    def get_fields(self) -> Any:
        """`from` is a word of Python's."""
        moment = serializers.DateTimeField
        return {**super().get_fields(), "from": moment(), "to": moment()}


def parameters(groups: Iterable[str]) -> list[OpenApiParameter]:
    """What the query may say, for the schema."""
    described = {
        "from": "RFC 3339, or a date: its start in the time zone. 30 days before `to`.",
        "to": "RFC 3339, or a date: its end. Now.",
        "group_by": f"Comma-separated, at most one of hour and day: {', '.join(groups)}.",
    }
    mode = OpenApiParameter("mode", OpenApiTypes.STR, enum=list(Mode), default=Mode.LIVE.value)
    return [OpenApiParameter(name, str, description=text) for name, text in described.items()] + [
        mode
    ]


@dataclass(frozen=True, slots=True)
class Question:
    """A query that was understood."""

    zone: str
    begin: dt.datetime
    end: dt.datetime
    by: tuple[str, ...]
    mode: str

    @property
    def window(self) -> str:
        return next((name for name in self.by if name in {"hour", "day"}), "")


class Usage(APIView):
    groups = ("day", "hour", "project", "key", "operation", "provider", "model")

    @extend_schema(
        operation_id="usage",
        tags=["usage"],
        parameters=parameters(groups),
        responses=SummaryShown,
    )
    def get(self, request: Request) -> Response:
        """Sum up what your tenant used."""
        identity = identity_of(request)
        if identity.tenant_id is None:
            raise Forbidden("You act for no tenant. Staff ask /internal/v1/usage.")
        tenant = Tenant.objects.get(pk=identity.tenant_id)
        question = understood(request.query_params, self.groups, tenant.time_zone)
        return Response(answer(question, tenant.pk, shown))


def understood(
    query: Mapping[str, str],
    groups: Iterable[str],
    zone: str,
    *,
    also: Iterable[str] = (),
    days: int = 30,
) -> Question:
    """The query's meaning. `also` are parameters that the caller reads; `days` is how far back
    it goes unless it says. Raises InvalidRequest."""
    for name in query:
        if name not in {"from", "to", "group_by", "mode", *also}:
            raise refusal(name[:80], "Unknown. Leave it out.")
    by = tuple(dict.fromkeys(name for name in query.get("group_by", "").split(",") if name))
    if wrong := [name[:80] for name in by if name not in groups]:
        raise refusal("group_by", f"{wrong[0]!r} is none of {', '.join(groups)}.")
    if {"hour", "day"} <= set(by):
        raise refusal("group_by", "Take either hour or day.")
    mode = query.get("mode", Mode.LIVE.value)
    if mode not in set(Mode):
        raise refusal("mode", "Must be live or test.")
    end = moment(query, "to", zone) or timezone.now()
    begin = moment(query, "from", zone) or end - dt.timedelta(days=days)
    question = Question(zone, _whole(begin), _whole(end, up=True), by, mode)
    longest = LONGEST[question.window]
    if question.begin >= question.end:
        raise refusal("from", "Must be before `to`.")
    if question.end - question.begin > dt.timedelta(days=longest, hours=1):
        raise refusal("from", f"At most {longest} days before `to`, grouped like this.")
    return question


def answer(
    question: Question, tenant_id: int | None, show: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The body. `show` turns sums into fields. Raises InvalidRequest."""
    periods = _periods(question)
    edges = [question.begin.timestamp(), *(one.starts for one in periods[1:])]
    columns = [_column(name) for name in question.by if name != question.window]
    try:
        rows = summarize(
            [*edges, question.end.timestamp()],
            columns,
            mode=question.mode,
            tenant_id=tenant_id,
            most=MOST_GROUPS,
        )
    except TooManyGroups:
        detail = f"More than {MOST_GROUPS} groups. Ask for a shorter time or for fewer."
        raise refusal("group_by", detail) from None
    name = _names(question, rows, periods)
    return {
        "data": [name(row) | show(row) for row in rows],
        "totals": show(total(rows)),
        "from": _shown_moment(question.begin, question.zone),
        "to": _shown_moment(question.end, question.zone),
        "time_zone": question.zone,
    }


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """What a tenant may see of its sums: never what the providers take."""
    return {
        **{name: row[name] for name in COUNTS},
        "cache_hits": row["hits"],
        "charge_microusd": row["charge"],
        "charge_usd": to_usd(row["charge"]),
        "latency_ms": latencies(row),
    }


def refusal(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: {detail}", param=name, errors=[{"detail": detail, "pointer": f"/{name}"}]
    )


def moment(query: Mapping[str, str], name: str, zone: str) -> dt.datetime | None:
    """A date is a day of the zone, whole: `from` its start, `to` its end."""
    text = query.get(name)
    if text is None:
        return None
    try:
        day = parse_date(text) if len(text) == len("2026-07-01") else None
        told = parse_datetime(text.replace(" ", "+")) if day is None else None
    except ValueError:
        day = told = None
    if day is not None and 2000 <= day.year < 2200:
        after = day + dt.timedelta(days=name == "to")
        return dt.datetime.combine(after, dt.time(), zoneinfo.ZoneInfo(zone))
    if told is not None and told.tzinfo is not None and 2000 <= told.year < 2200:
        return told
    raise refusal(name, "Must be a date such as 2026-07-01, or RFC 3339 with its offset.")


def _whole(moment: dt.datetime, *, up: bool = False) -> dt.datetime:
    """The start of its minute, or the next minute's."""
    whole = moment.astimezone(dt.UTC).replace(second=0, microsecond=0)
    return whole + dt.timedelta(minutes=1) if up and whole != moment else whole


def _periods(question: Question) -> list[Period]:
    """The hours or days of the zone, or the whole time as one."""
    begin, end = question.begin.timestamp(), question.end.timestamp()
    if not question.window:
        return [Period("", begin, end)]
    found = [period(Window(question.window), begin, question.zone)]
    while (after := found[-1].ends) is not None and after < end:
        found.append(period(Window(question.window), after, question.zone))
    return found


def _column(name: str) -> str:
    return name if name in SHOWN_AS_THEY_ARE else f"{name}_id"


def _names(
    question: Question, rows: list[dict[str, Any]], periods: list[Period]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """How a row's group is called: ids as people know them, None for none or one long gone."""
    tenants, projects, keys = (
        _by_id(model, rows, column)
        for model, column in ((Tenant, "tenant_id"), (Project, "project_id"), (ApiKey, "key_id"))
    )

    def name(row: dict[str, Any]) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for group in question.by:
            if group == "day":
                named["day"] = periods[row["period"]].name
            elif group == "hour":
                named["hour"] = _hour(periods[row["period"]], question.zone)
            elif group in SHOWN_AS_THEY_ARE:
                named[group] = row[group]
            elif group == "tenant":
                named["tenant"] = getattr(tenants.get(row["tenant_id"]), "slug", None)
            elif group == "key":
                named["key"] = getattr(keys.get(row["key_id"]), "key_id", None)
            else:
                project = projects.get(row["project_id"])
                named["project"] = getattr(project, "public_id", None)
                named["project_slug"] = getattr(project, "slug", None)
        return named

    return name


def _by_id(model: type[Model], rows: list[dict[str, Any]], column: str) -> dict[int, Any]:
    ids = {row[column] for row in rows if column in row}
    return model._default_manager.in_bulk(ids) if ids else {}


def times(question: Question) -> list[str]:
    """How the hours or days are called that are grouped by, those without a call too."""
    is_by_hour = question.window == "hour"
    return [_hour(one, question.zone) if is_by_hour else one.name for one in _periods(question)]


def _hour(one: Period, zone: str) -> str:
    return _shown_moment(dt.datetime.fromtimestamp(one.starts, dt.UTC), zone)


def _shown_moment(moment: dt.datetime, zone: str) -> str:
    return moment.astimezone(zoneinfo.ZoneInfo(zone)).isoformat().replace("+00:00", "Z")
