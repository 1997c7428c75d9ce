"""A tenant's page in the admin: its quotas as they stand, its day, its people and keys; and
its own pages, looked at as one of its members."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import action

from accounts.models import Membership
from api.acting import AS_MEMBER
from api.console.bars import bar
from api.dashboard import figures, home
from api.internal.usage import tenant_id_of
from api.v1 import exports
from api.v1.quotas import of_tenants
from lib.admin import asked
from lib.audit import event
from lib.problems import Problem
from tenants.admin import TenantAdmin
from tenants.keys import Mode
from tenants.models import ApiKey, Project, Tenant
from usage.export import FOR_STAFF

MOST = 20
SWITCHES = SUSPEND, RESUME = ("suspend", "resume")
MAY_IMPERSONATE = "accounts.change_user"

admin.site.unregister(Tenant)


@admin.register(Tenant)
class TenantConsole(TenantAdmin):
    change_form_outer_before_template = "api/tenant_now.html"
    change_form_outer_after_template = "api/tenant_about.html"
    actions_detail = ["switch", *TenantAdmin.actions_detail]

    def get_urls(self) -> list[URLPattern]:
        look = path(
            "<int:tenant_id>/look/<int:member_id>/",
            self.admin_site.admin_view(require_POST(look_as)),
            name="tenants_tenant_look",
        )
        return [look, *super().get_urls()]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        *args: Any,
        obj: Any = None,
        **more: Any,
    ) -> Any:
        if obj is not None:
            context |= _told(request, obj)
        return super().render_change_form(request, context, obj=obj, **more)

    @action(  # type: ignore[untyped-decorator]
        description="Suspend or resume", icon="block", url_path="switch", permissions=["change"]
    )
    def switch(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A page that asks, and then does."""
        tenant: Tenant = self.row(request, object_id)
        back = reverse("admin:tenants_tenant_change", args=[tenant.pk])
        if request.POST.get("action") in SWITCHES:
            getattr(self, request.POST["action"])(request, [tenant])
            return redirect(back)
        name = SUSPEND if tenant.status == Tenant.Status.ACTIVE else RESUME
        return asked(self, request, name, [tenant], form=forms.Form(), back=back)


def _told(request: HttpRequest, tenant: Tenant) -> dict[str, Any]:
    members: QuerySet[Membership] = Membership.objects.filter(tenant=tenant)
    return {
        "quotas": list(map(bar, of_tenants(tenant, mode=Mode.LIVE))),
        "cards": home.cards(**figures.overview(tenant.pk)),
        "charts": home.charts(figures.lines("operation", tenant_id=tenant.pk), "operation"),
        "members": members.select_related("user").order_by("user__email")[:MOST],
        "projects": Project.objects.of(tenant).order_by("slug")[:MOST],
        "keys": ApiKey.objects.of(tenant).select_related("project").order_by("-created_at")[:MOST],
        "may_look": request.user.has_perm(MAY_IMPERSONATE),
    }


def look_as(request: HttpRequest, tenant_id: int, member_id: int) -> HttpResponse:
    """On to the tenant's pages, as that member; the banner there says so, and the audit log.
    Raises PermissionDenied."""
    if not request.user.has_perm(MAY_IMPERSONATE):
        raise PermissionDenied
    rows = Membership.objects.select_related("user", "tenant")
    membership = get_object_or_404(rows, pk=member_id, tenant_id=tenant_id)
    if not membership.user.is_active:
        messages.error(request, f"{membership.user} is switched off.")
        return redirect("admin:tenants_tenant_change", tenant_id)
    event(
        "looked as",
        kind="accounts.user",
        object_id=membership.user.public_id,
        object_name=membership.user.email,
        after={"tenant": membership.tenant.slug},
    )
    request.session[AS_MEMBER] = membership.user.pk
    return redirect("portal:overview", membership.tenant.slug)


def export(request: HttpRequest) -> TemplateResponse | StreamingHttpResponse:
    """The ledger as a file, or the form that asks for it. Raises PermissionDenied."""
    if not request.user.has_perm("usage.view_usagerecord"):
        raise PermissionDenied
    fault, query = "", {name: str(value) for name, value in request.GET.items() if value}
    if query:
        try:
            slug = query.get("tenant")
            tenant_id = tenant_id_of(slug) if slug else None
            return exports.answer(query, FOR_STAFF, tenant_id, "UTC", also=("tenant",))
        except Problem as problem:
            fault = problem.detail
    context = {
        **admin.site.each_context(request),
        "title": "Export calls",
        "fault": fault,
        "asked": query,
        "back": reverse("admin:usage_usagerecord_changelist"),
    }
    return TemplateResponse(request, "api/export.html", context, status=400 if fault else 200)
