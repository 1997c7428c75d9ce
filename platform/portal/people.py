"""Members, invitations, projects, and the tenant's own settings."""

from __future__ import annotations

import zoneinfo
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache

from accounts import services as accounts
from accounts.models import Invitation, Membership, Role, User
from api.acting import person_of
from api.pacing import INVITATIONS, slow_down
from api.permissions import BUILDERS, MANAGERS
from lib.problems import RateLimited
from portal import mails
from portal.page import Visit, page
from portal.passwords import RULES
from portal.refusals import tell
from tenants import services as tenants
from tenants.locales import locales
from tenants.models import Project

ONLY_OWNERS = "Only an owner may make, change or remove an owner."
NOBODY: frozenset[str] = frozenset()


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail address", max_length=254)
    role = forms.ChoiceField(choices=Role.choices, initial=Role.DEVELOPER)


@page(write=MANAGERS)
def members(visit: Visit) -> HttpResponse:
    form = InviteForm(visit.request.POST or None)
    told: dict[str, Any] = {}
    if visit.request.method == "POST" and form.is_valid():
        try:
            _only_owners_touch_owners(visit, form.cleaned_data["role"])
            told, form = _invited(visit, **form.cleaned_data), InviteForm()
        except ValidationError as error:
            tell(form, error)
        except RateLimited as problem:
            form.add_error(None, problem.detail)
    return _members_page(visit, form=form, **told)


def _invited(visit: Visit, email: str, role: str) -> dict[str, str]:
    """The link goes to whom it is for; where no mail does, to who invites. Raises ValidationError,
    RateLimited."""
    group, tenant = "invitations", visit.tenant.public_id
    slow_down(visit.request, group=group, rate=INVITATIONS, tenant=tenant)
    row, token = accounts.invite(tenant=visit.tenant, by=visit.person, email=email, role=role)
    base = visit.request.build_absolute_uri("/").rstrip("/")
    link = base + reverse("portal:invitation", args=[token])
    if not mails.reach_people():
        return {"link": link, "invited": row.email}
    told = {"base": base, "link": link, "by": visit.person.email, "role": role}
    context = told | {"tenant": visit.tenant.name}
    mails.meanwhile(lambda: mails.send("invited", row.email, context))
    return {"invited": row.email}


@page(read=NOBODY, write=MANAGERS)
def member(visit: Visit, user_id: str) -> HttpResponse:
    membership, role = _membership(visit, user_id), visit.request.POST.get("role", "")
    try:
        _only_owners_touch_owners(visit, membership.role, role)
        accounts.change_role(membership=membership, role=role)
    except ValidationError as error:
        return _members_page(visit, fault=" ".join(error.messages))
    return visit.back_to("members")


@page(read=NOBODY, write=MANAGERS)
def remove_member(visit: Visit, user_id: str) -> HttpResponse:
    membership = _membership(visit, user_id)
    try:
        _only_owners_touch_owners(visit, membership.role)
        accounts.remove_member(membership=membership)
    except ValidationError as error:
        return _members_page(visit, fault=" ".join(error.messages))
    if membership.user == visit.person:  # whose pages these were until now
        return redirect("portal:choose")
    return visit.back_to("members")


@page(read=NOBODY, write=MANAGERS)
def withdraw_invitation(visit: Visit, invitation_id: str) -> HttpResponse:
    rows = Invitation.objects.filter(tenant=visit.tenant)
    accounts.withdraw(invitation=get_object_or_404(rows, public_id=invitation_id))
    return visit.back_to("members")


def _members_page(visit: Visit, **told: Any) -> HttpResponse:
    rows = Membership.objects.filter(tenant=visit.tenant).select_related("user")
    form = told.pop("form", None) or InviteForm()
    context = {
        "members": rows.order_by("user__email")[:500],
        "invitations": Invitation.objects.open().filter(tenant=visit.tenant)[:100],
        "roles": Role.choices,
        "form": form,
        "may_write": visit.may(MANAGERS),
        **told,
    }
    status = 400 if form.errors or told.get("fault") else 200
    return visit.render("portal/members.html", context, status=status)


def _membership(visit: Visit, user_id: str) -> Membership:
    rows = Membership.objects.filter(tenant=visit.tenant).select_related("user", "tenant")
    row: Membership = get_object_or_404(rows, user__public_id=user_id)
    return row


def _only_owners_touch_owners(visit: Visit, *roles: str) -> None:
    if Role.OWNER in roles and visit.role != Role.OWNER:
        raise ValidationError(ONLY_OWNERS)


class PasswordForm(forms.Form):
    """For who is invited and has no account yet."""

    name = forms.CharField(max_length=120, required=False)
    password = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
        help_text=RULES,
    )


@never_cache
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Where an invitation's link leads. Who has an account signs in; others choose a password."""
    row = accounts.invited(token)
    if row is None:
        raise Http404
    person, known = person_of(request), User.objects.filter(email=row.email).first()
    fresh = accounts.may_choose(known)
    form = PasswordForm(request.POST or None) if fresh and person is None else None
    mine = person is not None and person.email == row.email
    if request.method == "POST" and (mine or (form is not None and form.is_valid())):
        try:
            joined = accounts.accept(token=token, **(form.cleaned_data if form else {}))
        except ValidationError as error:
            if form is None:  # it ended just now
                raise Http404 from None
            tell(form, error)
        else:
            if not mine:
                login(request, joined.user, "django.contrib.auth.backends.ModelBackend")
            return redirect("portal:overview", joined.tenant.slug)
    context = {
        "invitation": row,
        "form": form,
        "other": "" if person is None or mine else person.email,
        "sign_in": person is None and not fresh,
    }
    status = 400 if form is not None and form.errors else 200
    return render(request, "portal/invitation.html", context, status=status)


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=120)
    slug = forms.SlugField(
        label="Short name",
        max_length=63,
        help_text="Letters, digits and hyphens. It cannot be changed later.",
    )

    def __init__(self, visit: Visit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = visit.tenant

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if Project.objects.of(self.tenant).filter(slug=slug).exists():
            raise ValidationError("Another project has this short name. Choose another one.")
        return slug


@page(write=BUILDERS)
def projects(visit: Visit) -> HttpResponse:
    form = ProjectForm(visit, visit.request.POST or None)
    if visit.request.method == "POST" and form.is_valid():
        try:
            tenants.create_project(tenant=visit.tenant, **form.cleaned_data)
        except ValidationError as error:
            tell(form, error)
        else:
            return visit.back_to("projects")
    return _projects_page(visit, form=form)


@page(read=NOBODY, write=BUILDERS)
def project(visit: Visit, project_id: str) -> HttpResponse:
    row, name = _project(visit, project_id), visit.request.POST.get("name", "").strip()
    try:
        tenants.update_project(project=row, name=name or None)
    except ValidationError as error:
        return _projects_page(visit, fault=" ".join(error.messages))
    return visit.back_to("projects")


@page(read=NOBODY, write=BUILDERS)
def delete_project(visit: Visit, project_id: str) -> HttpResponse:
    try:
        tenants.delete_project(project=_project(visit, project_id))
    except ValidationError as error:
        return _projects_page(visit, fault=" ".join(error.messages))
    return visit.back_to("projects")


def _project(visit: Visit, project_id: str) -> Project:
    row: Project = get_object_or_404(Project.objects.of(visit.tenant), public_id=project_id)
    return row


def _projects_page(visit: Visit, **told: Any) -> HttpResponse:
    form = told.pop("form", None) or ProjectForm(visit)
    rows = Project.objects.of(visit.tenant).annotate(
        in_use=Count("keys", filter=Q(keys__revoked_at=None))
    )
    context = {
        "projects": rows.order_by("slug")[:500],
        "form": form,
        "may_write": visit.may(BUILDERS),
        **told,
    }
    status = 400 if form.errors or told.get("fault") else 200
    return visit.render("portal/projects.html", context, status=status)


class SettingsForm(forms.Form):
    name = forms.CharField(max_length=120)
    time_zone = forms.ChoiceField(
        choices=[(name, name) for name in sorted(zoneinfo.available_timezones())],
        help_text="Of the times on these pages, and of your quotas' days and months.",
    )
    locale = forms.ChoiceField(
        choices=[(code, f"{name} ({code})") for code, name in locales().items()],
        help_text="How figures are written here; the texts stay in English.",
    )
    allow_house_fallback = forms.BooleanField(
        required=False,
        label="When a provider fails with a credential of yours, go on with ours",
    )


@page(read=MANAGERS, write=MANAGERS)
def settings(visit: Visit) -> HttpResponse:
    names = ("name", "time_zone", "locale", "allow_house_fallback")
    initial = {name: getattr(visit.tenant, name) for name in names}
    form = SettingsForm(visit.request.POST or None, initial=initial)
    if visit.request.method == "POST" and form.is_valid():
        try:
            tenants.update_tenant(tenant=visit.tenant, **form.cleaned_data)
        except ValidationError as error:
            tell(form, error)
        else:
            messages.success(visit.request, "Saved; in force within a second.")
            return visit.back_to("settings")
    status = 400 if form.errors else 200
    return visit.render("portal/settings.html", {"form": form}, status=status)
