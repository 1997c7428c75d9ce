"""Providers in the admin as they stand just now, and what staff do about it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.db.models import Case, FloatField, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action, display
from unfold.views import ChangeList

from api.console import calls
from api.console.provider_page import breakers_of, told
from api.console.standing import NONE, Standing, fullest, standings, states
from providers import admin as plain
from providers.breaker import State
from providers.models import Provider

MOST_SORTED = 1000  # providers that are put in the order of a figure; the others come after
COLOURS = {
    State.CLOSED: "success",
    State.OPEN: "danger",
    State.HALF_OPEN: "warning",
    State.FORCED_OPEN: "danger",
    State.DISABLED: "info",
}
SORTED_BY = ("p95", "error_rate", "cost", "quality")


class LiveList(ChangeList):  # type: ignore[misc]
    """Gives each row its figures: a few queries, whatever the number of rows."""

    root_queryset: QuerySet[Provider]

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Provider]:
        self.standings = standings()
        if "o" in request.GET:
            self.root_queryset = _sortable(self.root_queryset, self.standings)
        rows: QuerySet[Provider] = super().get_queryset(request, *args, **kwargs)
        return rows

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        known, quotas = states(), fullest(self.result_list)
        for row in self.result_list:
            row.told = self.standings.get(row.slug, Standing()).told()
            row.breaker_state = known.get(row.slug, State.CLOSED)
            row.resting = sum(
                state is not State.CLOSED and name.startswith(f"{row.slug}/")
                for name, state in known.items()
            )
            row.fullest = quotas.get(row.slug)


def _sortable(rows: QuerySet[Provider], known: dict[str, Standing]) -> QuerySet[Provider]:
    columns = {}
    for name in SORTED_BY:
        figures = [(slug, getattr(each, name)) for slug, each in list(known.items())[:MOST_SORTED]]
        whens = [When(slug=slug, then=Value(float(n))) for slug, n in figures if n is not None]
        columns[f"now_{name}"] = Case(*whens, default=None, output_field=FloatField())
    return rows.annotate(**columns)


class BreakerFilter(SimpleListFilter):
    title = "breaker"
    parameter_name = "breaker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(state.value, state.value.replace("_", " ").lower()) for state in State]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Provider]) -> QuerySet[Provider]:
        wanted, known = self.value(), states()
        if wanted == State.CLOSED:
            return queryset.exclude(slug__in=[n for n, s in known.items() if s is not State.CLOSED])
        if wanted in COLOURS:
            return queryset.filter(slug__in=[n for n, s in known.items() if s == wanted])
        return queryset


class ProviderAdmin(plain.ProviderAdmin):
    """The list shows the last 24 hours; the page of one provider all that is known of it."""

    list_display = [
        "slug",
        "category",
        "enabled",
        "breaker_now",
        "failed_now",
        "p95_now",
        "quota_now",
        "cost_now",
        "quality_now",
        "credentials_held",
    ]
    list_filter = ["enabled", BreakerFilter, "category", "adapter", "source"]  # type: ignore[list-item]
    list_per_page = 50
    fieldsets = [
        (None, {"fields": ["name", "slug", "category", "enabled", "docs_url"]}),
        (
            "Connection",
            {
                "classes": ["tab"],
                "fields": [
                    *("adapter", "base_url", "settings", "timeouts"),
                    *("needs_credential", "allow_private_network"),
                ],
            },
        ),
        ("Resilience", {"classes": ["tab"], "fields": ["breaker", "retry"]}),
        ("Limits", {"classes": ["tab"], "fields": ["rate_limits", "quotas", "time_zone"]}),
        (
            "Definition",
            {
                "classes": ["tab"],
                "fields": ["manifest", "source", "checksum", "public_id", "created_at"],
            },
        ),
    ]
    actions_row = ["breaker", "test_call"]
    actions_detail = ["breaker", "test_call", *plain.ProviderAdmin.actions_detail]
    change_form_outer_before_template = "api/provider_now.html"
    change_form_outer_after_template = "api/provider_about.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LiveList

    @display(description="breaker", label={s.value: c for s, c in COLOURS.items()})  # type: ignore[untyped-decorator]
    def breaker_now(self, provider: Any) -> tuple[str, str]:
        state: State = provider.breaker_state
        rest = f", {provider.resting} models' too" if provider.resting else ""
        return state.value, state.value.replace("_", " ").lower() + rest

    @admin.display(description="failed, 24 h", ordering="now_error_rate")
    def failed_now(self, provider: Any) -> str:
        return str(provider.told["failed"])

    @admin.display(description="p95", ordering="now_p95")
    def p95_now(self, provider: Any) -> str:
        return str(provider.told["p95"])

    @admin.display(description="fullest quota")
    def quota_now(self, provider: Any) -> str:
        quota = provider.fullest
        if quota is None:
            return NONE
        return f"{quota.percent} % of {quota.name.removeprefix('provider-')}"

    @admin.display(description="cost, 24 h", ordering="now_cost")
    def cost_now(self, provider: Any) -> str:
        return str(provider.told["cost"])

    @admin.display(description="quality", ordering="now_quality")
    def quality_now(self, provider: Any) -> str:
        return str(provider.told["quality"])

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        *args: Any,
        obj: Any = None,
        **more: Any,
    ) -> Any:
        if obj is not None and request.method == "GET":
            context |= told(obj)
        return super().render_change_form(request, context, obj=obj, **more)

    @action(  # type: ignore[untyped-decorator]
        description="Breaker",
        icon="electrical_services",
        url_path="breaker",
        permissions=["change"],
    )
    def breaker(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Force it open, disable, close or reset it: a page that asks why, and then does."""
        provider: Provider = self.row(request, object_id)
        back = reverse("admin:providers_provider_change", args=[provider.pk])
        page = self.said(request, [provider], back)
        if page is None:
            return redirect(back)
        if isinstance(page, TemplateResponse) and page.context_data is not None:
            page.template_name = "api/ask_breaker.html"
            page.context_data["breakers"] = list(breakers_of(provider))
        return page

    @action(  # type: ignore[untyped-decorator]
        description="Test call", icon="network_check", url_path="test-call", permissions=["change"]
    )
    def test_call(self, request: HttpRequest, object_id: str) -> HttpResponse:
        provider: Provider = self.row(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": f"A test call to {provider}",
            "provider": provider,
            **calls.tried(request, provider),
        }
        return TemplateResponse(request, "api/test_call.html", context)


admin.site.unregister(Provider)
admin.site.register(Provider, ProviderAdmin)
