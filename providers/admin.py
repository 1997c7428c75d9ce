"""The switchboard in the admin: providers, credentials, models, operations, routes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display

from lib.admin import ModelAdmin, TabularInline, UndoableAdmin, asked
from providers import services
from providers.admin_forms import ModelForm, OverrideForm
from providers.credential_admin import CredentialInline
from providers.models import BreakerOverride, Credential, Model, Operation, Provider, Route, Target
from providers.rule_forms import ProviderForm, RouteForm, WarmForm
from providers.target_forms import RoutesTargets, TargetForm
from providers.warm_models import WarmRequest


class CatalogueAdmin(UndoableAdmin):
    """Rows that load_catalogue may have made. What staff change is theirs, and it stays."""

    list_per_page = 50  # a page is made in a tenth of a second
    left_alone: frozenset[str] = frozenset()  # what load_catalogue never changes in a row

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        edited = not self.left_alone.issuperset(form.changed_data)
        parts = [formset for formset in formsets if formset.model is not Credential]
        if edited or any(formset.has_changed() for formset in parts):
            self.take_over(form.instance)

    def take_over(self, obj: Any) -> None:
        services.take_over(obj)


@admin.register(Provider)
class ProviderAdmin(CatalogueAdmin):
    form = ProviderForm
    list_display = ["slug", "name", "category", "adapter", "enabled", "credentials_held", "source"]
    list_filter = ["enabled", "category", "adapter", "source"]
    search_fields = ["slug", "name", "public_id"]
    readonly_fields = ["public_id", "manifest", "source", "checksum", "created_at"]
    actions = ["enable", "disable", "override_breaker"]
    actions_list = ["all_definitions"]
    actions_detail = ["definitions", *CatalogueAdmin.actions_detail]
    left_alone = frozenset({"enabled"})
    inlines = [CredentialInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.annotate(held=Count("credentials", filter=Q(credentials__enabled=True)))

    @action(description="Definitions", url_path="all-definitions", permissions=["view"])  # type: ignore[untyped-decorator]
    def all_definitions(self, request: HttpRequest) -> HttpResponse:
        """What a provider is has versions, and pages of its own: it is never edited in place."""
        return redirect("definitions-index")

    @action(description="Definition", url_path="definition", permissions=["view"])  # type: ignore[untyped-decorator]
    def definitions(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("definitions", slug=self.row(request, object_id).slug)

    @admin.display(description="credentials", ordering="held")
    def credentials_held(self, provider: Any) -> str:
        return str(provider.held) if provider.needs_credential else "none needed"

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._switch(request, queryset, enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._switch(request, queryset, enabled=False)

    @admin.action(description="Force its breaker open, disable or close it", permissions=["change"])
    def override_breaker(
        self, request: HttpRequest, queryset: QuerySet[Provider]
    ) -> HttpResponse | None:
        return self.said(request, queryset, reverse("admin:providers_provider_changelist"))

    def said(
        self, request: HttpRequest, providers: Collection[Provider], back: str
    ) -> HttpResponse | None:
        """The page that asks what to do and why; None once that is done."""
        form = OverrideForm(request.POST if "sure" in request.POST else None)
        if form.is_valid():
            for provider in providers:
                services.override_breaker(
                    name=provider.slug,
                    state=form.cleaned_data["state"],
                    reason=form.cleaned_data["reason"],
                    expires_at=form.expires_at,
                    by=request.user.email,  # type: ignore[union-attr]
                    user=request.user,  # type: ignore[arg-type]
                )
            self.message_user(request, "In force everywhere within a second.")
            return None
        return asked(self, request, "override_breaker", providers, form=form, back=back)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Provider], *, enabled: bool) -> None:
        for provider in queryset:
            services.switch_provider(provider=provider, enabled=enabled)
        self.message_user(request, "Switched; in force everywhere within a second.")


@admin.register(Model)
class ModelAdminPage(CatalogueAdmin):
    form = ModelForm
    list_display = ["model_id", "provider", "operation", "context", "enabled"]
    list_filter = ["enabled", "operation", "provider"]
    list_select_related = ["provider"]
    search_fields = ["model_id", "provider__slug"]
    readonly_fields = ["source"]
    autocomplete_fields = ["provider"]


@admin.register(Operation)
class OperationAdmin(UndoableAdmin):
    """Rows mirror the operations' files; only the switch is staff's."""

    list_display = ["name", "category", "summary", "targets", "enabled"]
    list_filter = ["enabled", "category"]
    search_fields = ["name", "summary"]
    readonly_fields = ["name", "category", "summary"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Operation]:
        rows: QuerySet[Operation] = super().get_queryset(request)
        served = Target.objects.filter(
            route__operation=OuterRef("name"), enabled=True, provider__enabled=True
        )
        counted = served.order_by().values("route__operation").annotate(number=Count("pk"))
        return rows.annotate(served=Subquery(counted.values("number")))

    @admin.display(description="targets", ordering="served")
    def targets(self, operation: Any) -> str:
        """How many there are whose provider is switched on."""
        return str(operation.served or 0)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TargetInline(TabularInline):
    """Tried from the top: put in order by dragging, or by the numbers."""

    model = Target
    formset = RoutesTargets
    extra = 0
    ordering_field = "position"
    fields = ["position", "provider", "model", "weight", "enabled"]
    autocomplete_fields = ["provider", "model"]
    max_num = 50  # as many as a file may say

    def get_queryset(self, request: HttpRequest) -> QuerySet[Target]:
        rows: QuerySet[Target] = super().get_queryset(request)
        return rows.select_related("provider", "model__provider")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """No more forms than these are made, however many a request says that it has."""
        return super().get_formset(request, obj, absolute_max=self.max_num, **kwargs)


@admin.register(Route)
class RouteAdmin(CatalogueAdmin):
    form = RouteForm
    actions_list = ["cache"]
    list_display = ["__str__", "operation", "strategy", "goes_to", "enabled", "source"]
    list_filter = ["enabled", "operation", "strategy", "source"]
    search_fields = ["alias", "operation"]
    readonly_fields = ["source"]
    fieldsets = [
        (None, {"fields": ["operation", "alias", "strategy", "enabled", "source"]}),
        ("On failure", {"classes": ["tab"], "fields": ["timeouts", "rescue", "hedge"]}),
        ("Checks", {"classes": ["tab"], "fields": ["checks"]}),
        ("Cache", {"classes": ["tab"], "fields": ["cache"]}),
        ("Several at once", {"classes": ["tab"], "fields": ["fan_out"]}),
    ]
    inlines = [TargetInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        rows: QuerySet[Route] = super().get_queryset(request)
        return rows.prefetch_related("targets__provider", "targets__model__provider")

    @action(description="Cache", url_path="cache", permissions=["view"])  # type: ignore[untyped-decorator]
    def cache(self, request: HttpRequest) -> HttpResponse:
        """What is kept of the routes' answers has a page of its own."""
        return redirect("cache")

    @admin.display(description="targets")
    def goes_to(self, route: Route) -> str:
        return " → ".join(str(target) for target in route.targets.all())


@admin.register(Target)
class TargetAdmin(CatalogueAdmin):
    """A target is part of its route, which it never leaves."""

    form = TargetForm
    actions_list = ["scores"]
    list_display = ["__str__", "route", "provider", "position", "weight", "enabled"]
    list_filter = ["enabled", "provider"]
    list_select_related = ["route", "provider", "model__provider"]
    search_fields = ["route__alias", "route__operation", "provider__slug"]
    autocomplete_fields = ["route", "provider", "model"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["route"] if obj else []

    @action(description="Scores", url_path="scores", permissions=["view"])  # type: ignore[untyped-decorator]
    def scores(self, request: HttpRequest) -> HttpResponse:
        """What only the gateway in this process knows is told by a page of its own."""
        return redirect("targets-scores")

    def take_over(self, obj: Target) -> None:
        services.take_over(obj.route)

    def delete_model(self, request: HttpRequest, obj: Target) -> None:
        super().delete_model(request, obj)
        self.take_over(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Target]) -> None:
        gone = list(queryset)
        super().delete_queryset(request, queryset)
        for target in gone:
            self.take_over(target)


@admin.register(WarmRequest)
class WarmRequestAdmin(ModelAdmin):
    """What the cache is to have at hand, and what came of it last. Of one that a manifest
    declares, staff only say whether it runs."""

    form = WarmForm
    list_display = ["name", "tenant", "operation", "every", "enabled", "ran_at", "outcome"]
    list_filter = ["enabled", "operation"]
    list_select_related = ["tenant"]
    search_fields = ["name", "operation", "tenant__slug"]
    readonly_fields = ["provider", "asked_at", "ran_at", "outcome"]
    autocomplete_fields = ["tenant"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        declared = ["name", "tenant", "operation", "params", "every"]
        return self.readonly_fields + (declared if obj and obj.provider_id else [])

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        is_manifests = obj is not None and obj.provider_id is not None
        return not is_manifests and bool(super().has_delete_permission(request, obj))


@admin.register(BreakerOverride)
class BreakerOverrideAdmin(ModelAdmin):
    """Who said what to which breaker, and why. What was said stays; a new word ends it."""

    list_display = ["name", "word", "holds", "reason", "by", "created_at", "expires_at"]
    list_filter = ["state"]
    search_fields = ["name", "reason", "by"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[BreakerOverride]:
        rows: QuerySet[BreakerOverride] = super().get_queryset(request)
        latest = BreakerOverride.latest(timezone.now()).filter(pk=OuterRef("pk"))
        return rows.annotate(stands=Exists(latest))

    @display(  # type: ignore[untyped-decorator]
        description="state",
        ordering="state",
        label={"FORCED_OPEN": "danger", "DISABLED": "info", "CLOSED": "success"},
    )
    def word(self, override: BreakerOverride) -> tuple[str, str]:
        return override.state, override.state.replace("_", " ").lower()

    @admin.display(description="in force", boolean=True)
    def holds(self, override: Any) -> bool:
        return bool(override.stands) and override.state != BreakerOverride.To.CLOSED

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: BreakerOverride, form: Any, change: bool
    ) -> None:
        obj.by = request.user.email  # type: ignore[union-attr]
        super().save_model(request, obj, form, change)
        services.note_override(obj, request.user)  # type: ignore[arg-type]
