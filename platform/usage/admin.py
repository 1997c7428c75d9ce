"""The ledger in the admin: to be read, never changed."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from accounts.identity import HOUSE
from lib.admin import ModelAdmin
from lib.ids import first_uuid7, is_uuid
from lib.money import to_usd
from tenants.keys import Mode
from tenants.models import Tenant
from usage.feedback_models import Feedback
from usage.models import Attempt, OpenCall, UsageRecord
from usage.rollup_models import AttemptDay, UsageDay
from usage.waterfall import bars

RARE = {"outcome", "mode", "streamed__exact", "estimate__exact"}


class LedgerAdmin(ModelAdmin):
    """No adding, changing or deleting, and no counting of millions of rows for a page."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TenantsLedgerAdmin(LedgerAdmin):
    """Rows that are a tenant's, with its slug and both amounts."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        slug = Tenant.objects.filter(pk=OuterRef("tenant_id")).values("slug")[:1]
        annotated: QuerySet[Any] = rows.annotate(tenant_slug=Subquery(slug))
        return annotated

    @admin.display(description="tenant")
    def tenant(self, row: Any) -> str:
        return row.tenant_slug or (f"#{row.tenant_id}" if row.tenant_id != HOUSE else "the house")

    @admin.display(description="charge, USD", ordering="charge")
    def charge_usd(self, row: Any) -> str:
        return to_usd(row.charge)

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, row: Any) -> str:
        return to_usd(row.cost)


class MonthFilter(admin.SimpleListFilter):
    """Request ids are made in the order of time, so a span of time is a span of the primary
    key: found at once among however many rows."""

    title = "month"
    parameter_name = "month"
    MOST = 13

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        first = timezone.now().replace(day=1)
        months = []
        for _ in range(self.MOST):
            months.append(f"{first:%Y-%m}")
            first = (first - dt.timedelta(days=1)).replace(day=1)
        return [(month, month) for month in months]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if (begin := _date(f"{self.value()}-01")) is None:
            return queryset
        return _between(queryset, begin, (begin + dt.timedelta(days=32)).replace(day=1))


class DayFilter(admin.SimpleListFilter):
    """The days of the month that is chosen; without one, the last two weeks."""

    title = "day"
    parameter_name = "day"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        today = timezone.now().date()
        begin = _date(f"{request.GET.get('month')}-01")
        if begin is None:
            days = [today - dt.timedelta(days=n) for n in range(14)]
        else:
            days = [begin + dt.timedelta(days=n) for n in range(31)]
            days = [day for day in days if day.month == begin.month and day <= today]
        return [(f"{day}", f"{day}") for day in days]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if (begin := _date(self.value() or "")) is None:
            return queryset
        return _between(queryset, begin, begin + dt.timedelta(days=1))


def _date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def _between(queryset: QuerySet[Any], begin: dt.date, end: dt.date) -> QuerySet[Any]:
    """Of UTC."""
    first, last = (
        first_uuid7(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()) for day in (begin, end)
    )
    return queryset.filter(request_id__gte=first, request_id__lt=last)


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ok", "answered"), ("error", "error")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "ok":
            return queryset.filter(code="ok")
        return queryset.exclude(code="ok") if self.value() == "error" else queryset


class ModeFilter(admin.SimpleListFilter):
    """Both modes are known: Django's own filter would look for them in every row."""

    title = "mode"
    parameter_name = "mode"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(mode.value, mode.value) for mode in Mode]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(mode=self.value()) if self.value() else queryset


def _recent(request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Of the last 24 hours, unless a month or a day is chosen."""
    if "month" in request.GET or "day" in request.GET:
        return rows
    since = timezone.now() - dt.timedelta(days=1)
    return rows.filter(request_id__gte=first_uuid7(since.timestamp()))


def _link(page: str, pk: int | None) -> str | None:
    """By its number, to the page that has its name: the row may be gone."""
    if pk is None:
        return None
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}_change", args=[pk]), pk)


@admin.register(UsageRecord)
class UsageRecordAdmin(TenantsLedgerAdmin):
    list_display = [
        "created_at",
        "request_id",
        "tenant",
        "operation",
        "served_by",
        "outcome",
        "charge_usd",
        "cost_usd",
        "latency_ms",
    ]
    actions_list = ["export"]
    list_filter = [MonthFilter, DayFilter, OutcomeFilter, ModeFilter, "streamed", "estimate"]
    search_fields = ["request_id__exact"]
    search_help_text = (
        "A whole request id; or a tenant, provider or model. All but the id find calls of the "
        "last 24 hours, unless a month or a day is chosen."
    )
    ordering = ["-request_id"]
    fieldsets = [
        (
            "The call",
            {
                "fields": [
                    *("request_id", "created_at", "tenant", "project", "key", "user"),
                    *("mode", "operation", "route", "bytes"),
                ]
            },
        ),
        (
            "The answer",
            {
                "fields": [
                    *("status", "code", "provider", "model", "streamed", "cache"),
                    *("latency_ms", "attempts"),
                ]
            },
        ),
        (
            "What it used and cost",
            {
                "fields": [
                    *("charge_usd", "cost_usd", "markup", "price_id", "estimate"),
                    *("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens"),
                    *("reasoning_tokens", "units"),
                ]
            },
        ),
    ]
    change_form_outer_before_template = "usage/story.html"

    @action(description="Export", icon="download", url_path="export", permissions=["view"])  # type: ignore[untyped-decorator]
    def export(self, request: HttpRequest) -> HttpResponse:
        """Files have a page of their own, which asks what is to be in them."""
        return redirect("export")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """What a filter finds may be one call in millions, and there is no index to find it by."""
        rows = super().get_queryset(request)
        return _recent(request, rows) if RARE & request.GET.keys() else rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        word = search_term.strip()
        if not word or is_uuid(word):
            found, twice = super().get_search_results(request, queryset, word)
            return found, twice
        tenant = Tenant.objects.filter(slug=word).values_list("pk", flat=True).first()
        if tenant is None:
            found = queryset.filter(Q(provider=word) | Q(model=word))
        else:
            found = queryset.filter(tenant_id=tenant)
        return _recent(request, found), False

    @display(  # type: ignore[untyped-decorator]
        description="outcome", ordering="status", label={"ok": "success", "error": "danger"}
    )
    def outcome(self, record: UsageRecord) -> tuple[str, str]:
        if record.code == "ok":
            return "ok", str(record.status)
        return "error", f"{record.status} {record.code.replace('_', ' ')}"

    @admin.display(description="served by", empty_value="-")
    def served_by(self, record: UsageRecord) -> str:
        return "/".join(filter(None, (record.provider, record.model)))

    @admin.display(description="project")
    def project(self, record: UsageRecord) -> str | None:
        return _link("tenants_project", record.project_id)

    @admin.display(description="API key")
    def key(self, record: UsageRecord) -> str | None:
        return _link("tenants_apikey", record.key_id)

    @admin.display(description="user")
    def user(self, record: UsageRecord) -> str | None:
        return _link("accounts_user", record.user_id)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """With the attempts, as they ran. Of bodies nothing is kept."""
        record = UsageRecord.objects.filter(pk=object_id).first()
        drawn = [] if record is None else bars(record)
        context = {"bars": drawn, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)


@admin.register(Attempt)
class AttemptAdmin(LedgerAdmin):
    list_display = [
        "request_id",
        "number",
        "provider",
        "model",
        "verdict",
        "status",
        "latency_ms",
        "cost_usd",
    ]
    search_fields = ["request_id__exact"]
    ordering = ["-request_id", "number"]

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, attempt: Attempt) -> str:
        return to_usd(attempt.cost)


@admin.register(OpenCall)
class OpenCallAdmin(LedgerAdmin):
    list_display = ["request_id", "opened_at", "expires_at"]
    search_fields = ["request_id__exact"]
    ordering = ["-opened_at"]


@admin.register(UsageDay)
class UsageDayAdmin(TenantsLedgerAdmin):
    list_display = [
        "starts",
        "tenant",
        "mode",
        "operation",
        "model",
        "provider",
        "calls",
        "errors",
        "hits",
        "charge_usd",
        "cost_usd",
    ]
    list_filter = [ModeFilter]
    search_fields = ["operation__exact", "model__exact", "provider__exact"]
    search_help_text = "A whole operation, model or provider"
    ordering = ["-starts", "pk"]


@admin.register(AttemptDay)
class AttemptDayAdmin(LedgerAdmin):
    list_display = [
        "starts",
        "provider",
        "model",
        "operation",
        "mode",
        "verdict",
        "attempts",
        "failures",
        "cost_usd",
    ]
    list_filter = [ModeFilter]
    search_fields = ["provider__exact", "model__exact"]
    search_help_text = "A whole provider or model"
    ordering = ["-starts", "pk"]

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, day: AttemptDay) -> str:
        return to_usd(day.cost)


@admin.register(Feedback)
class FeedbackAdmin(LedgerAdmin):
    list_display = ["created_at", "request_id", "target", "score", "comment"]
    search_fields = ["request_id__exact", "target__exact"]
    search_help_text = "A whole request id, or provider/model"
    ordering = ["-pk"]
