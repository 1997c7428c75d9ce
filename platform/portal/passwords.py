"""One's own password: changed, or set anew by mail when it is forgotten."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import PasswordResetConfirmView, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django_ratelimit.core import is_ratelimited

from accounts.models import User
from accounts.services import normal_email, set_password
from api.acting import person_of
from api.pacing import MAILS, MAILS_TO_ONE, PASSWORDS, slow_down
from lib.audit import event, object_id
from lib.problems import Problem
from portal import mails

RULES = "8 characters or more; no common password, not like your address, not only digits."


class Ruled(SetPasswordForm):  # type: ignore[type-arg]
    """Saves as every other door does, which also ends what was signed in with the old one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = RULES
        self.fields["new_password2"].help_text = ""
        self.fields["new_password2"].label = "The new password again"

    def save(self, commit: bool = True) -> User:
        return set_password(user=self.user, password=self.cleaned_data["new_password1"])


class ChangeForm(Ruled, PasswordChangeForm):
    field_order = ["old_password", "new_password1", "new_password2"]


class ForgottenForm(forms.Form):
    email = forms.EmailField(label="E-mail address", max_length=254)

    def clean_email(self) -> str:
        return normal_email(self.cleaned_data["email"])


@sensitive_post_parameters()
@never_cache
def account(request: HttpRequest) -> HttpResponseBase:
    """Who one is, and a new password for the old one. Staff who look as a member change none."""
    person = person_of(request)
    if person is None:
        return redirect_to_login(request.path, reverse("portal:sign-in"))
    if person != request.user:
        return _account_page(request, None, status=403 if request.method == "POST" else 200)
    if request.method == "POST":
        return _change(request, person)
    return _account_page(request, ChangeForm(person))


def _change(request: HttpRequest, person: User) -> HttpResponse:
    try:
        slow_down(request, group="passwords", rate=PASSWORDS, tenant=person.public_id)
    except Problem as problem:  # and whether the old one was right is not told
        form, status = ChangeForm(person), problem.status
        return _account_page(request, form, fault=problem.detail, status=status)
    form = ChangeForm(person, request.POST)
    if not form.is_valid():
        return _account_page(request, form, status=400)
    update_session_auth_hash(request, form.save())
    messages.success(request, "Changed. Whoever was signed in elsewhere is signed out.")
    return redirect("portal:account")


def _account_page(
    request: HttpRequest, form: ChangeForm | None, *, fault: str = "", status: int = 200
) -> HttpResponse:
    context = {"person": person_of(request), "form": form, "fault": fault}
    return render(request, "portal/account.html", context, status=status)


@never_cache
def forgotten(request: HttpRequest) -> HttpResponse:
    """Says the same of every address and takes as long: what there is to do for one that is
    known is done meanwhile."""
    form, are_sent = ForgottenForm(request.POST or None), bool(settings.ENV.EMAIL_URL)
    sent, status = "", 400 if form.errors else 200
    if are_sent and request.method == "POST" and form.is_valid():
        try:
            sent = _asked(request, form.cleaned_data["email"])
        except Problem as problem:
            form.add_error(None, problem.detail)
            status = problem.status
    context = {"form": form, "are_sent": are_sent, "sent": sent}
    return render(request, "portal/forgotten.html", context, status=status)


def _asked(request: HttpRequest, email: str) -> str:
    """Whom a link is on its way to, if there is such a person. Raises RateLimited, Unavailable."""
    slow_down(request, group="mails", rate=MAILS)
    if not _had_enough(request, email):
        base = request.build_absolute_uri("/").rstrip("/")
        mails.meanwhile(lambda: _send_link(email, base))
    return email


def _had_enough(request: HttpRequest, email: str) -> bool:
    """Nobody's mailbox is filled from here."""
    counted = {"group": "mails-to-one", "key": lambda *_: email, "rate": MAILS_TO_ONE}
    return bool(is_ratelimited(request, increment=True, **counted))


def _send_link(email: str, base: str) -> None:
    person = User.objects.filter(email=email).first()
    if person is None or not _may_be_helped(person):
        return
    ids = [
        urlsafe_base64_encode(force_bytes(person.pk)),
        default_token_generator.make_token(person),
    ]
    link = base + reverse("portal:new-password", args=ids)
    event(
        "asked for a new password",
        kind=person._meta.label_lower,
        object_id=object_id(person),
        object_name=str(person),
    )
    mails.send("forgotten", email, {"base": base, "link": link})


def _may_be_helped(person: User) -> bool:
    """Not who was switched off; and no mailbox opens the admin."""
    return person.is_active and not person.is_staff and not person.is_superuser


class NewPassword(PasswordResetConfirmView):
    """Where the link leads: it works once, and for an hour."""

    form_class = Ruled
    template_name = "portal/new_password.html"
    success_url = reverse_lazy("portal:choose")
    post_reset_login = True
    post_reset_login_backend = "django.contrib.auth.backends.ModelBackend"

    def get_user(self, uidb64: str) -> User | None:
        person = super().get_user(uidb64)
        return person if isinstance(person, User) and _may_be_helped(person) else None
