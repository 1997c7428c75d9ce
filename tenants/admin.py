"""Tenants, projects, plans and API keys in the admin."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action

from lib.admin import ModelAdmin, UndoableAdmin, asked
from lib.rows import LinesField
from tenants import services
from tenants.keys import Mode
from tenants.models import ApiKey, HousePolicy, Plan, Project, Tenant
from tenants.scopes import check_scopes

ROTATION_OVERLAP = dt.timedelta(hours=24)


@admin.register(HousePolicy)
class HousePolicyAdmin(UndoableAdmin):
    list_display = ["__str__", "time_zone", "changed_at"]
    search_fields = ["time_zone"]
    readonly_fields = ["changed_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is one row. All pages ask, for their menus; only its own ask the database."""
        page = request.resolver_match and request.resolver_match.url_name
        if not (page or "").startswith("tenants_housepolicy"):
            return False
        return super().has_add_permission(request) and not HousePolicy.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # empty its lists instead


@admin.register(Plan)
class PlanAdmin(UndoableAdmin):
    list_display = ["slug", "name", "created_at"]
    search_fields = ["slug", "name"]
    readonly_fields = ["created_at"]


@admin.register(Tenant)
class TenantAdmin(UndoableAdmin):
    list_display = ["slug", "name", "plan", "status", "time_zone", "created_at"]
    list_filter = ["status", "plan"]
    list_select_related = ["plan"]
    search_fields = ["slug", "name", "public_id"]
    readonly_fields = ["public_id", "status", "created_at"]
    actions = ["suspend", "resume"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # the ledger speaks of it; suspend it instead

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            services.create_project(tenant=obj, slug="default")

    @admin.action(description="Suspend", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset:
            services.suspend_tenant(tenant=tenant)
        self.message_user(request, "Suspended: all their keys and members are refused now.")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> None:
        for tenant in queryset:
            services.resume_tenant(tenant=tenant)
        self.message_user(request, "Resumed.")


@admin.register(Project)
class ProjectAdmin(ModelAdmin):
    list_display = ["slug", "name", "tenant", "created_at"]
    list_filter = ["tenant"]
    list_select_related = ["tenant"]
    search_fields = ["slug", "name", "public_id", "tenant__slug"]
    readonly_fields = ["public_id", "created_at"]
    autocomplete_fields = ["tenant"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, "tenant"] if obj else self.readonly_fields


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    scopes = LinesField(
        help_text="One a line: * for all operations, some (chat.completions, finance.*), or rights "
        "(manage:keys, health:read, internal:read)."
    )
    allowed_ips = LinesField(
        required=False,
        label="Allowed addresses",
        help_text="From which it may be used, one a line, such as 203.0.113.0/24. None: from all.",
    )

    def clean_scopes(self) -> list[str]:
        try:
            return check_scopes(self.cleaned_data["scopes"])
        except ValidationError as error:
            raise ValidationError(error.messages) from None


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """A key is made and rotated through the services, and its text shown once, on a page of
    its own: a message would pass through a cookie or the session table."""

    form = ApiKeyForm
    list_per_page = 50
    list_display = ["name", "hint", "tenant", "project", "mode", "expires_at", "revoked_at"]
    list_filter = ["mode", "tenant", "revoked_at"]
    list_select_related = ["tenant", "project__tenant"]
    search_fields = ["name", "public_id", "tenant__slug"]
    autocomplete_fields = ["project"]
    editable = ["name", "scopes", "allowed_ips", "rate_limits", "quotas", "expires_at"]
    shown = ["hint", "tenant", "project", "mode", "replaces", "revoked_at", "last_used_at"]
    actions = ["rotate", "revoke"]
    actions_row = ["rotate_it", "revoke_it"]
    actions_detail = ["rotate_it", "revoke_it"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return (
            [*self.editable, *self.shown, "created_at"]
            if obj
            else [
                "project",
                "mode",
                *self.editable,
            ]
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.shown, "created_at"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # the ledger speaks of it; revoke it instead

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key, text = services.create_key(
            project=obj.project,
            name=obj.name,
            mode=Mode(obj.mode),
            scopes=obj.scopes,
            allowed_ips=obj.allowed_ips,
            expires_at=obj.expires_at,
            rate_limits=obj.rate_limits,
            quotas=obj.quotas,
        )
        obj.__dict__.update(key.__dict__)
        request.new_key = text  # type: ignore[attr-defined]  # for response_add, a moment later

    def response_add(self, request: Any, obj: ApiKey, post_url_continue: Any = None) -> Any:
        return self._new_keys_page(request, [(obj, request.new_key)])

    @admin.action(description="Rotate (the old key works 24 hours more)", permissions=["change"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        made = []
        for key in queryset.select_related("tenant"):
            try:
                made.append(services.rotate_key(key=key, overlap=ROTATION_OVERLAP))
            except ValidationError as error:
                self.message_user(request, f"{key}: {' '.join(error.messages)}", messages.ERROR)
        return self._new_keys_page(request, made) if made else None

    @admin.action(description="Revoke at once", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            services.revoke_key(key=key)
        self.message_user(request, "Revoked: refused everywhere within a second.")

    @action(  # type: ignore[untyped-decorator]
        description="Rotate", icon="autorenew", url_path="rotate", permissions=["change"]
    )
    def rotate_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._one(request, object_id, "rotate")

    @action(  # type: ignore[untyped-decorator]
        description="Revoke", icon="block", url_path="revoke", permissions=["change"]
    )
    def revoke_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._one(request, object_id, "revoke")

    def _one(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """The same of one key, on a page that asks."""
        key: ApiKey = self.row(request, object_id)
        back = reverse("admin:tenants_apikey_change", args=[key.pk])
        if request.method != "POST":
            return asked(self, request, name, [key], form=forms.Form(), back=back)
        done: HttpResponse | None = getattr(self, name)(request, ApiKey.objects.filter(pk=key.pk))
        return done or redirect(back)

    def _new_keys_page(
        self, request: HttpRequest, made: Iterable[tuple[ApiKey, str]]
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "New API keys",
            "keys": list(made),
            "back": reverse("admin:tenants_apikey_changelist"),
        }
        return TemplateResponse(request, "tenants/new_keys.html", context)
