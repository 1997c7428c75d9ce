"""Signing in and out, and choosing the tenant."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import login, logout
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.models import Membership
from accounts.services import normal_email
from api.acting import AS_MEMBER, person_of
from api.pacing import paced_sign_in

WRONG = "The e-mail address or the password is wrong."


class SignInForm(AuthenticationForm):
    """Says the same of an unknown address, a wrong password and an account switched off."""

    error_messages = {"invalid_login": WRONG, "inactive": WRONG}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail address"

    def clean_username(self) -> str:
        return normal_email(self.cleaned_data["username"])


@never_cache
@paced_sign_in
def sign_in(request: HttpRequest) -> HttpResponse:
    form = SignInForm(request, data=request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.get_user())
        return redirect(_wanted(request))
    status = 400 if form.errors else 200
    context = {"form": form, "next": request.GET.get("next", "")}
    return render(request, "portal/sign_in.html", context, status=status)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Staff who look at the pages as a member only stop to."""
    if request.session.pop(AS_MEMBER, None) is not None:
        return redirect("admin:tenants_tenant_changelist")
    logout(request)
    return redirect("portal:sign-in")


@never_cache
def choose(request: HttpRequest) -> HttpResponseBase:
    """The tenants one belongs to; straight on where there is one."""
    person = person_of(request)
    if person is None:
        return redirect_to_login(request.path, reverse("portal:sign-in"))
    rows = Membership.objects.filter(user=person).select_related("tenant").order_by("tenant__slug")
    memberships = list(rows[:100])
    if len(memberships) == 1:
        return redirect("portal:overview", memberships[0].tenant.slug)
    return render(request, "portal/choose.html", {"memberships": memberships})


def _wanted(request: HttpRequest) -> str:
    wanted = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if ours and wanted.startswith("/") else reverse("portal:choose")
