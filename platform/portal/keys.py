"""API keys: made and shown once, changed, rotated with an overlap, revoked."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from api.pacing import NEW_KEYS, slow_down
from api.permissions import BUILDERS, MANAGERS
from lib.problems import Problem
from portal.page import Visit, page
from portal.refusals import tell
from tenants import services
from tenants.keys import Mode
from tenants.models import ApiKey, Project, validate_networks
from tenants.scopes import TENANT_RIGHTS, check_scopes, is_right, rights_of

MOST_SHOWN = 200
OVERLAPS = [
    ("0", "none: the old key ends now"),
    ("3600", "an hour"),
    ("86400", "a day"),
    ("604800", "a week"),
    ("2592000", "30 days"),
]


class KeyForm(forms.Form):
    name = forms.CharField(max_length=120)
    scopes = forms.CharField(
        initial="*",
        max_length=2000,
        help_text="Separated by spaces: * for every operation, chat.completions, finance.*, "
        "or a right such as manage:keys.",
    )
    allowed_ips = forms.CharField(
        label="Allowed addresses",
        required=False,
        max_length=2000,
        help_text="Networks separated by spaces, such as 192.0.2.0/24 2001:db8::/32. Empty: any.",
    )
    expires_at = forms.DateTimeField(
        label="Ends at",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="In your tenant's time zone. Empty: never.",
    )

    def __init__(self, visit: Visit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.visit = visit

    def clean_scopes(self) -> list[str]:
        """Nobody gives rights beyond their own."""
        scopes: list[str] = self.cleaned_data["scopes"].split()
        rights = {right for scope in scopes if is_right(scope) for right in rights_of(scope)}
        held = TENANT_RIGHTS if self.visit.role in MANAGERS else frozenset()
        if beyond := rights - held:
            raise ValidationError(f"You cannot give {', '.join(sorted(beyond))}: ask an owner.")
        try:
            return check_scopes(scopes)
        except ValidationError as error:
            raise ValidationError(error.messages) from None

    def clean_allowed_ips(self) -> list[str]:
        networks: list[str] = self.cleaned_data["allowed_ips"].split()
        validate_networks(networks)
        return networks


class NewKeyForm(KeyForm):
    project = forms.ModelChoiceField(Project.objects.none())
    mode = forms.ChoiceField(
        choices=[(mode.value, mode.value) for mode in Mode],
        help_text="Live keys reach the providers; test keys the built-in sandbox, which is free.",
    )
    field_order = ["name", "project", "mode", "scopes", "allowed_ips", "expires_at"]

    def __init__(self, visit: Visit, *args: Any, **kwargs: Any) -> None:
        super().__init__(visit, *args, **kwargs)
        projects: Any = self.fields["project"]
        projects.queryset = Project.objects.of(visit.tenant)
        projects.empty_label = None
        projects.to_field_name = "public_id"
        projects.label_from_instance = lambda project: project.name


class RotateForm(forms.Form):
    overlap = forms.ChoiceField(label="The old key works on for", choices=OVERLAPS, initial="86400")


@page(write=BUILDERS)
def keys(visit: Visit) -> HttpResponse:
    """The list, and the form for a new one."""
    form = NewKeyForm(visit, visit.request.POST or None)
    if visit.request.method == "POST" and form.is_valid():
        data = form.cleaned_data | {"mode": Mode(form.cleaned_data["mode"])}
        made = _done(visit, form, lambda: services.create_key(**data))
        if made:
            return _once(visit, *made)
    rows = ApiKey.objects.of(visit.tenant).select_related("project", "replaces")
    shown = rows.order_by(F("revoked_at").desc(nulls_first=True), "-created_at")[:MOST_SHOWN]
    in_use_first = sorted(shown, key=lambda row: row.has_ended)
    context = {"keys": [(row, state_of(row)) for row in in_use_first], "form": form}
    return visit.render("portal/keys.html", context, status=400 if form.errors else 200)


@page(write=BUILDERS)
def key(visit: Visit, key_id: str) -> HttpResponse:
    """One key, and the form that changes it."""
    row = _key(visit, key_id)
    form = KeyForm(visit, visit.request.POST or None, initial=_initial(row))
    if visit.request.method == "POST" and form.is_valid():
        _refuse_what_is_beyond(visit, row, form)
        if not form.errors and _done(
            visit, form, lambda: services.update_key(key=row, **form.cleaned_data)
        ):
            return visit.back_to("key", key_id)
    context = {"key": row, "state": state_of(row), "form": form, "rotate": RotateForm()}
    return visit.render("portal/key.html", context, status=400 if form.errors else 200)


@page(read=frozenset(), write=BUILDERS)
def rotate(visit: Visit, key_id: str) -> HttpResponse:
    row, form = _key(visit, key_id), RotateForm(visit.request.POST)
    if form.is_valid():
        _refuse_what_is_beyond(visit, row, form)
        overlap = dt.timedelta(seconds=int(form.cleaned_data["overlap"]))
        made = not form.errors and _done(
            visit, form, lambda: services.rotate_key(key=row, overlap=overlap)
        )
        if made:
            return _once(visit, *made)
    change = KeyForm(visit, initial=_initial(row))
    context = {"key": row, "state": state_of(row), "form": change, "rotate": form}
    return visit.render("portal/key.html", context, status=400)


@page(read=frozenset(), write=BUILDERS)
def revoke(visit: Visit, key_id: str) -> HttpResponse:
    services.revoke_key(key=_key(visit, key_id))
    return visit.back_to("keys")


def state_of(row: ApiKey) -> str:
    """In few words, by the clock of the tenant."""
    if row.revoked_at:
        return f"revoked {_told(row.revoked_at)}"
    if row.expires_at is None:
        return "in use"
    return f"{'ended' if row.has_ended else 'in use, ends'} {_told(row.expires_at)}"


def _told(moment: dt.datetime) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"


def _key(visit: Visit, key_id: str) -> ApiKey:
    rows = ApiKey.objects.of(visit.tenant).select_related("project", "replaces")
    row: ApiKey = get_object_or_404(rows, public_id=key_id.removeprefix("key_"))
    return row


def _initial(row: ApiKey) -> dict[str, Any]:
    return {
        "name": row.name,
        "scopes": " ".join(row.scopes),
        "allowed_ips": " ".join(row.allowed_ips),
        "expires_at": row.expires_at,
    }


def _refuse_what_is_beyond(visit: Visit, row: ApiKey, form: forms.Form) -> None:
    """A key with rights that one does not hold is not one's to change or to have anew."""
    if any(is_right(scope) for scope in row.scopes) and visit.role not in MANAGERS:
        form.add_error(None, "This key has rights that you do not hold: ask an owner.")


def _done(visit: Visit, form: forms.Form, work: Any) -> Any:
    """What the service gave, or None, and the form says why not."""
    try:
        slow_down(visit.request, group="new-keys", rate=NEW_KEYS, tenant=visit.tenant.public_id)
        return work()
    except ValidationError as error:
        tell(form, error)
    except Problem as problem:
        form.add_error(None, problem.detail)
    return None


def _once(visit: Visit, row: ApiKey, text: str) -> HttpResponse:
    """The only page that holds the key itself."""
    return visit.render("portal/new_key.html", {"key": row, "text": text})
