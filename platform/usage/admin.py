"""The ledger in the admin: to be read, never changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from lib.money import to_usd
from tenants.models import Tenant
from usage.feedback_models import Feedback
from usage.models import Attempt, OpenCall, UsageRecord
from usage.rollup_models import AttemptDay, UsageDay


class LedgerAdmin(ModelAdmin):  # type: ignore[misc]
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
        return row.tenant_slug or f"#{row.tenant_id}"

    @admin.display(description="charge, USD", ordering="charge")
    def charge_usd(self, row: Any) -> str:
        return to_usd(row.charge)

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, row: Any) -> str:
        return to_usd(row.cost)


@admin.register(UsageRecord)
class UsageRecordAdmin(TenantsLedgerAdmin):
    list_display = [
        "created_at",
        "request_id",
        "tenant",
        "operation",
        "model",
        "provider",
        "status",
        "charge_usd",
        "cost_usd",
        "latency_ms",
    ]
    list_filter = ["mode", "streamed", "estimate"]
    search_fields = ["request_id__exact"]
    search_help_text = "A whole request id"
    ordering = ["-request_id"]


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
    list_filter = ["mode"]
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
    list_filter = ["mode"]
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
