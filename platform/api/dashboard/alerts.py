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
from django.db.models import CharField, F, Max, OuterRef, QuerySet, Subquery, Value
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from api import vitals
from api.v1.quotas import of_tenants
from lib.clock import rfc3339, utc
from providers.breaker import FORCED, State
from providers.definition_models import Drift
from providers.models import BreakerOverride, Credential
from tenants.keys import Mode
from tenants.models import ApiKey, Tenant
from tenants.windows import Window
from usage import sizes
from usage.attempt_sums import attempts_since
from usage.models import QuotaAlert
from usage.pace import days_left
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
    found = [*_store(), *_left_out(), *_breakers(), *_refusals(), *_providers()]
    return _worst_first([*found, *_quotas(None), *_providers_paces(), *_lag(), *_disk()])


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


def _left_out() -> Iterator[Alert]:
    for kind, name in vitals.WORKER.left_out():
        if kind == "credential":
            text = "Its secret does not open: the keys it was sealed with are gone. Write it anew."
            yield Alert("critical", "credential_unusable", name, text)
        else:
            text = (
                "It cannot be used as it is written, and calls pass it over. Open its page and "
                "save it: the form says what is wrong. The log says more (`row_unusable`)."
            )
            yield Alert("critical", f"{kind}_left_out", name, text)


def _breakers() -> Iterator[Alert]:
    texts = {
        State.OPEN: ("critical", "Its calls fail and go to others. It is tried again by itself."),
        State.HALF_OPEN: ("warning", "It is being tried again."),
        State.FORCED_OPEN: ("warning", "Staff keep calls away from it"),
        State.DISABLED: ("notice", "Staff let all calls through, whether they fail or not"),
    }
    resting = vitals.breakers_part()["resting"]
    words = any(breaker["state"] in FORCED for breaker in resting)
    said = {row.name: row for row in BreakerOverride.latest(timezone.now())} if words else {}
    for breaker in resting:
        state, row = State(breaker["state"]), said.get(breaker["name"])
        severity, text = texts[state]
        if state in FORCED:
            text += _word(row) if row else "."
        since = row.created_at if row and state in FORCED else None
        yield Alert(severity, f"breaker_{state.lower()}", breaker["name"], text, since)


def _word(row: BreakerOverride) -> str:
    ends = row.expires_at
    until = f"until {ends:%Y-%m-%d %H:%M} UTC" if ends else "until they close it"
    return f" {until}. By {row.by}: {row.reason}"


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
    slug = Tenant.objects.filter(pk=OuterRef("tenant_id")).values("slug")
    grouped = rows.values("counter", "quota", slug=Subquery(slug)).annotate(
        percent=Max("threshold"), at=Max("created_at")
    )
    for row in grouped.order_by("-percent", "counter")[:MOST_TOLD]:
        used_up = row["percent"] >= 100
        text = "It is used up." if used_up else f"{row['percent']} % of it is used."
        whose = row["slug"] or _provider_of(row["counter"])
        subject = " ".join(filter(None, (whose, row["quota"])))
        code = "quota_used_up" if used_up else "quota_near_limit"
        yield Alert("critical" if used_up else "warning", code, subject, text, row["at"])


def _provider_of(counter: str) -> str:
    """Whose a counter is that is no tenant's; "" where it is of all calls (usage/demand.py)."""
    kind, _, rest = counter.partition(":")
    whose = rest.partition(":")[0]
    return whose if kind == "quota" and whose != "global" else ""


def _paces(tenant: Tenant) -> Iterator[Alert]:
    """Days' and months' quotas that are used up before they begin anew, if it goes on so."""
    for quota in of_tenants(tenant, mode=Mode.LIVE):
        moment = parse_datetime(quota["resets_at"] or "")
        resets = _by_the_clock_of(tenant, moment) if moment else ""
        subject = f"{quota['of']} {quota['quota']}"
        yield from _runs_out(subject, quota["window"], quota["days_left"], resets)


def _providers_paces() -> Iterator[Alert]:
    """The same of providers' quotas, by the counters alone."""
    now = time.time()
    claims = vitals.WORKER.provider_quotas(now)
    counters = vitals.WORKER.counters([claim for _, claim in claims])
    for (slug, claim), counter in zip(claims, counters, strict=True):
        quota, period = claim.quota, claim.period
        if counter is not None and period.ends is not None:
            days = days_left(period, quota.limit, counter.used, now)
            resets = f"{utc(period.ends):%Y-%m-%d %H:%M} UTC"
            yield from _runs_out(f"{slug} {quota.name}", quota.window, days, resets)


def _runs_out(subject: str, window: str, days: float | None, resets: str) -> Iterator[Alert]:
    if days and window in {Window.DAY, Window.MONTH}:
        text = f"At this pace it is used up in {span(days)}; it begins anew {resets}."
        yield Alert("warning", "quota_runs_out", subject, text)


def span(days: float) -> str:
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
