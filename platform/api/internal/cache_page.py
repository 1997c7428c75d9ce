"""The cache as a page of the admin: the same figures, and a form to have things forgotten."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from api import caches, invalidation, warm
from api.internal import cache_figures
from api.v1.usage import understood
from lib.problems import Problem

MOST_SHOWN = 100  # tenants
VIEW, CHANGE = "providers.view_route", "providers.change_route"  # how long a route's are kept
WARM = "warm"  # the field that names a warm request to be asked now
KINDS = [(kind, kind) for kind in (*invalidation.KINDS, invalidation.ALL)]


class InvalidationForm(forms.Form):
    what = forms.ChoiceField(choices=KINDS, widget=UnfoldAdminSelectWidget)
    which = forms.CharField(
        max_length=invalidation.LONGEST,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="A tag such as symbol:AAPL, an operation, a tenant's or provider's slug, "
        "provider/model, a route's alias, or the key of an answer. Empty for all.",
    )
    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextInputWidget)

    def named(self) -> invalidation.Named | None:
        """None where there is no such thing, and `errors` says so."""
        what, which = self.cleaned_data["what"], self.cleaned_data["which"]
        if what == invalidation.ALL:
            if which:
                self.add_error("which", "Leave it empty to forget all.")
            return None if which else invalidation.EVERYTHING
        try:
            return invalidation.named(what, which)
        except Problem as problem:
            self.add_error("which", problem.extra["errors"][0]["detail"])
            return None


def page(request: HttpRequest) -> HttpResponseBase:
    """Raises PermissionDenied for staff who may not see, or change, what routes keep."""
    if not request.user.has_perm(CHANGE if request.method == "POST" else VIEW):
        raise PermissionDenied
    if WARM in request.POST:
        _warm(request, request.POST[WARM])
        return redirect("cache")
    form = InvalidationForm(request.POST or None)
    if form.is_valid() and (named := form.named()) is not None:
        _invalidate(request, named, form.cleaned_data["reason"])
        return redirect("cache")
    context = {
        **admin.site.each_context(request),
        **_figures(),
        "title": "Cache",
        "form": form if request.user.has_perm(CHANGE) else None,
    }
    return TemplateResponse(request, "api/cache.html", context)


def _invalidate(request: HttpRequest, named: invalidation.Named, reason: str) -> None:
    user: Any = request.user
    try:
        everywhere = invalidation.invalidate(named, by=user.email, reason=reason, user=user)
    except Problem as problem:
        messages.error(request, problem.detail)
        return
    if everywhere:
        messages.success(request, f"Forgotten: {named}. In force everywhere within a second.")
    else:
        told = "The store is away: on this gateway now, on others once it is back."
        messages.warning(request, f"Forgotten: {named}. {told}")


def _warm(request: HttpRequest, name: str) -> None:
    user: Any = request.user
    try:
        warm.ask_now(name, by=user.email, user=user)
    except Problem as problem:
        messages.error(request, problem.extra["errors"][0]["detail"])
    else:
        messages.success(request, f"{name} is asked within a second or two.")


def _figures() -> dict[str, Any]:
    try:
        status: dict[str, Any] = caches.status()
    except Problem as problem:
        status = {"fault": problem.detail}
    told = cache_figures.analytics(understood({}, (), "UTC", days=1))
    tenants = sorted(told["tenants"], key=lambda row: -row["calls"])
    left_out = len(tenants[MOST_SHOWN:])
    return {
        "status": status,
        "analytics": {**told, "tenants": tenants[:MOST_SHOWN]},
        "left_out": left_out,
        "warming": warm.shown(),
    }
