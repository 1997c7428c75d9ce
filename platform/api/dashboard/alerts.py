"""What is wrong now, the worst first, each with what to do about it."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import CharField, F, Max, QuerySet, Value
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from api import vitals
from api.v1.quotas import of_tenants
from lib.clock import rfc3339
from providers.breaker import State
from providers.definition_models import Drift
from providers.models import Credential
from tenants.keys import Mode
from tenants.models import ApiKey, Tenant
from tenants.windows import Window
from usage import sizes
from usage.attempt_sums import attempts_since
from usage.models import QuotaAlert
from usage.rollup_models import UsageDelta

SEVERITIES = ("critical", "warning", "notice")
NEAR = 80  # per cent of a quota
FAILING, AT_LEAST = 0.2, 20  # the share of failed attempts in an hour that is told, of how many
KEY_ENDS = dt.timedelta(days=14)
LAG = dt.timedelta(minutes=2)  # until calls are in the roll-ups
FEW_DAYS, LITTLE_DISK = 14, 0.1
MOST_TOLD = 100
_SAID = ("said_code", "said_slug", "said_name", "said_why")


@dataclass(frozen=True, slots=True)
class Alert:
    severity: str
    code: str
    subject: str
    text: str
    since: dt.datetime | None = None

    def told(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "code": self.code,
            "subject": self.subject,
            "text": self.text,
            "since": None if self.since is None else rfc3339(self.since),
        }


def of_service() -> list[Alert]:
    """Everything that those who run it should know."""
    database = vitals.database_part()
    if database["status"] != "ok":
        text = "It does not answer: no call is taken. See whether it runs and can be reached."
        return [Alert("critical", "database_down", database["kind"], text)]
    found = [*_store(), *_breakers(), *_refusals(), *_providers()]
    return _worst_first([*found, *_quotas(None), *_lag(), *_disk()])


def of_tenant(tenant: Tenant) -> list[Alert]:
    """What a tenant should know: its quotas, those that will not last, and keys that end soon."""
    return _worst_first([*_quotas(tenant.pk), *_paces(tenant), *_keys(tenant)])


def _worst_first(found: list[Alert]) -> list[Alert]:
    return sorted(found, key=lambda alert: SEVERITIES.index(alert.severity))[:MOST_TOLD]


def _store() -> Iterator[Alert]:
    store = vitals.store_part()
    if store["status"] != "ok":
        text = (
            "It does not answer: hard quotas refuse calls, rate limits and the cache are each "
            "gateway's own. See whether it runs and can be reached."
        )
        yield Alert("critical", "store_degraded", store["kind"], text)


def _breakers() -> Iterator[Alert]:
    texts = {
        State.OPEN: ("critical", "Its calls fail and go to others. It is tried again by itself."),
        State.HALF_OPEN: ("warning", "It is being tried again."),
        State.FORCED_OPEN: ("warning", "Staff keep calls away from it."),
        State.DISABLED: ("notice", "Staff let all calls through, whether they fail or not."),
    }
    for breaker in vitals.breakers_part()["resting"]:
        state = State(breaker["state"])
        severity, text = texts[state]
        yield Alert(severity, f"breaker_{state.lower()}", breaker["name"], text)


def _refusals() -> Iterator[Alert]:
    """Drained credentials and drifting providers, by one query: the home page asks often."""
    drained = Credential.objects.filter(drained_at__isnull=False, enabled=True)
    shown = _as("credential_drained", drained, "provider__slug", "name", "drained_reason")
    drifting = _as("provider_drift", Drift.objects.all(), "slug", "operation", "message")
    rows = shown.values_list(*_SAID, "drained_at").union(drifting.values_list(*_SAID, "since"))
    for code, slug, name, why, since in rows.order_by("drained_at")[:MOST_TOLD]:
        if code == "credential_drained":
            text = f"The provider refused it ({why}). Put it right, then use it again."
            yield Alert("critical", code, f"{slug}/{name}", text, since)
        else:
            text = (
                f"It answers {name} in another shape than its definition tells. Edit a copy of "
                "the definition, activate it, and verify it."
            )
            yield Alert("warning", code, slug, text, since)


def _as(code: str, rows: QuerySet[Any], slug: str, name: str, why: str) -> QuerySet[Any]:
    named: QuerySet[Any] = rows.order_by().annotate(
        said_code=Value(code, CharField()), said_slug=F(slug), said_name=F(name), said_why=F(why)
    )
    return named


def _providers() -> Iterator[Alert]:
    for row in attempts_since((time.time() // 60 - 60) * 60):
        share = row["failures"] / row["attempts"] if row["attempts"] else 0
        if row["attempts"] >= AT_LEAST and share >= FAILING:
            text = f"{share:.0%} of {row['attempts']} attempts in the last hour failed."
            yield Alert("warning", "provider_failing", row["provider"], text)


def _quotas(tenant_id: int | None) -> Iterator[Alert]:
    """Thresholds that were reached in the last day: the highest of each counter."""
    since = timezone.now() - dt.timedelta(days=1)
    rows = QuotaAlert.objects.filter(created_at__gte=since, threshold__gte=NEAR, mode="live")
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    grouped = rows.values("counter", "quota", "tenant_id").annotate(
        percent=Max("threshold"), at=Max("created_at")
    )
    found = list(grouped.order_by("-percent", "counter")[:MOST_TOLD])
    slugs = dict(
        Tenant.objects.filter(pk__in={row["tenant_id"] for row in found}).values_list("pk", "slug")
    )
    for row in found:
        used_up = row["percent"] >= 100
        text = "It is used up." if used_up else f"{row['percent']} % of it is used."
        subject = " ".join(filter(None, (slugs.get(row["tenant_id"]), row["quota"])))
        code = "quota_used_up" if used_up else "quota_near_limit"
        yield Alert("critical" if used_up else "warning", code, subject, text, row["at"])


def _paces(tenant: Tenant) -> Iterator[Alert]:
    """Days' and months' quotas that are used up before they begin anew, if it goes on so."""
    for quota in of_tenants(tenant, mode=Mode.LIVE):
        days = quota["days_left"]
        if days and quota["window"] in {Window.DAY, Window.MONTH}:
            text = f"At this pace it is used up in {_span(days)}; it begins anew "
            text += f"{_by_the_clock_of(tenant, parse_datetime(quota['resets_at']))}."
            yield Alert("warning", "quota_runs_out", f"{quota['of']} {quota['quota']}", text)


def _span(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{max(1, round(days * 24))} h"


def _by_the_clock_of(tenant: Tenant, moment: Any) -> str:
    return f"{moment.astimezone(ZoneInfo(tenant.time_zone)):%Y-%m-%d %H:%M} {tenant.time_zone}"


def _keys(tenant: Tenant) -> Iterator[Alert]:
    now = timezone.now()
    ending = ApiKey.objects.of(tenant).filter(
        revoked_at=None, expires_at__gt=now, expires_at__lte=now + KEY_ENDS
    )
    replaced = set(ApiKey.objects.filter(replaces__in=ending).values_list("replaces_id", flat=True))
    for key in ending.order_by("expires_at")[:MOST_TOLD]:
        if key.pk not in replaced:
            ends = _by_the_clock_of(tenant, key.expires_at)
            text = f"It ends on {ends}. Rotate it before."
            yield Alert("warning", "key_ends", str(key), text)


def _lag() -> Iterator[Alert]:
    oldest = UsageDelta.objects.order_by("pk").values_list("starts", flat=True).first()
    if oldest is not None and timezone.now() - oldest > LAG + dt.timedelta(minutes=1):
        text = (
            "Calls wait to be summed up: figures are right and slow to make. See whether a worker "
            "runs (`manage.py worker`)."
        )
        yield Alert("warning", "worker_lags", "roll-ups", text, oldest)


def _disk() -> Iterator[Alert]:
    disk = shutil.disk_usage(settings.BASE_DIR)
    days = sizes.growth(disk.free).disk_days_left
    if days is not None and days < FEW_DAYS:
        text = f"Full in {days} days at last week's rate. Make room, or keep fewer months."
        yield Alert("critical", "disk_fills", "disk", text)
    elif disk.free < LITTLE_DISK * disk.total:
        text = f"{disk.free / disk.total:.0%} of it is left."
        yield Alert("warning", "disk_low", "disk", text)
