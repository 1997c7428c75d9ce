"""Routes in the admin, and who would serve a call of theirs now."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts.identity import HOUSE, Identity
from accounts.records import of_house, of_tenant
from api.console.calls import JsonObject
from api.operation_examples import example_of
from api.vitals import WORKER
from lib.problems import Problem
from providers import admin as plain
from providers.models import Route
from providers.operations import Kind, registry
from tenants.keys import Mode
from tenants.models import Tenant

REASONS = {
    "would_serve": ("success", "would serve it"),
    "not_needed": ("info", "would be asked next"),
    "circuit_open": ("danger", "its breaker is open"),
    "quota": ("danger", "a quota is used up"),
    "rate_limit": ("warning", "a rate limit is reached"),
    "bulkhead": ("warning", "as many calls at the same time as may be"),
    "credential_rests": ("warning", "its credentials rest"),
    "no_credential": ("danger", "no credential"),
    "incapable": ("warning", "its model cannot do that"),
    "too_long": ("warning", "too long for its model"),
    "other_model": ("info", "another model's vectors could not be compared"),
    "unsupported": ("warning", "cannot be asked that"),
    "fan_out": ("info", "beyond how many are asked at once"),
    "not_asked_for": ("info", "another provider was asked for"),
    "no_fallback": ("info", "no fallback was asked for"),
    "house_credential": ("info", "only the tenant's own credentials may be used"),
}
FIGURES = {
    "weighted": "weight",
    "latency": "seconds",
    "cost": "µUSD",
    "quality": "quality, 0…1",
    "adaptive": "likely to answer, 0…1",
}
DRAWN = frozenset({"latency", "adaptive"})


class PreviewForm(forms.Form):
    """Whose call, and what it asks."""

    tenant = forms.SlugField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="A tenant's slug: its own credentials count. Empty: the house.",
    )
    mode = forms.ChoiceField(
        choices=[(Mode.LIVE, "live"), (Mode.TEST, "test: the sandbox")],
        widget=UnfoldAdminSelectWidget,
    )
    params = JsonObject(
        label="Parameters",
        max_length=10_000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "json", "rows": 4}),
        help_text="A JSON object, for what depends on it: tools, images, length, a stream.",
    )

    def clean_tenant(self) -> Tenant | None:
        slug = self.cleaned_data["tenant"]
        if not slug:
            return None
        named = Tenant.objects.select_related("plan").filter(slug=slug)
        tenant: Tenant | None = named.first()
        if tenant is None:
            raise forms.ValidationError("There is no such tenant.")
        return tenant

    def identity(self) -> Identity:
        tenant, mode = self.cleaned_data["tenant"], Mode(self.cleaned_data["mode"])
        if tenant is None:
            told = replace(of_house(mode), tenant_id=HOUSE)
        else:
            told = of_tenant(tenant, mode)
        return replace(told, scopes=frozenset({"*"}))


class RouteAdmin(plain.RouteAdmin):
    actions_row = ["preview"]
    actions_detail = ["preview", *plain.RouteAdmin.actions_detail]

    @action(  # type: ignore[untyped-decorator]
        description="Who would serve", icon="rule", url_path="preview", permissions=["view"]
    )
    def preview(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """It changes nothing and asks nobody, so it is told to whoever may see routes."""
        route: Route = self.row(request, object_id)
        params = _example(route)
        given = {"mode": Mode.LIVE.value, "params": json.dumps(params), **request.GET.dict()}
        form = PreviewForm(given)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Who would serve {route}",
            "route": route,
            "form": form,
            **(_told(route, form) if form.is_valid() else {}),
        }
        return TemplateResponse(request, "api/route_preview.html", context)


def _example(route: Route) -> dict[str, Any]:
    operation = registry().get(route.operation)
    example = example_of(operation) if operation else {}
    return example | ({"model": route.alias} if "model" in example else {})


def _told(route: Route, form: PreviewForm) -> dict[str, Any]:
    """What the gateway in this process says of it, or why it cannot."""
    params = form.cleaned_data["params"] or _example(route)
    operation = registry().get(route.operation)
    if operation is not None and operation.kind is not Kind.DATA:
        params = params | {"model": route.alias}
    try:
        document = WORKER.explain(form.identity(), route.operation, params)
    except Problem as problem:
        return {
            "fault": problem.detail,
            "targets": list(map(_left_out, problem.extra.get("attempts", ()))),
        }
    except TimeoutError:
        return {"fault": "The gateway is too busy to say. Try again."}
    targets = [_row(target) for target in document["targets"]]
    return {
        "targets": targets,
        "strategy": document["strategy"],
        "figure": FIGURES.get(document["strategy"], ""),
        "drawn": document["strategy"] in DRAWN,
        "nobody": not any(row["reason"] == "would_serve" for row in targets),
        "refusal": document["refusal"],
    }


def _left_out(attempt: dict[str, Any]) -> dict[str, Any]:
    """Of a route on which nobody may be tried, as its caller is told."""
    reason = attempt["outcome"].removeprefix("skipped_")
    told = {"provider": attempt["provider"], "place": None, "score": None, "detail": ""}
    return _row({**told, "reason": reason})


def _row(target: dict[str, Any]) -> dict[str, Any]:
    colour, text = REASONS.get(target["reason"], ("info", target["reason"].replace("_", " ")))
    model = target.get("model", "")
    name = f"{target['provider']}/{model}" if model else target["provider"]
    return {**target, "name": name, "colour": colour, "text": text}


admin.site.unregister(Route)
admin.site.register(Route, RouteAdmin)
