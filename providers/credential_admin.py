"""Our secrets towards providers in the admin: they go in, and never come out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import EmptyFieldListFilter
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action

from lib.admin import ModelAdmin, TabularInline, asked
from providers import services
from providers.admin_forms import CredentialForm, ReasonForm
from providers.models import Credential


def ends_with(credential: Credential) -> str:
    return f"…{credential.last_four}" if credential.last_four else "-"


def drained(credential: Credential) -> str | None:
    """Since when it is not used, and how the provider refused it."""
    since = credential.drained_at
    return f"{since:%Y-%m-%d %H:%M} UTC, {credential.drained_reason}" if since else None


class HouseCredentials(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    def clean(self) -> None:
        """Raises ValidationError."""
        super().clean()
        gone = self.deleted_forms
        kept = [form.cleaned_data for form in self.forms if form not in gone and form.is_valid()]
        names = [said["name"] for said in kept if "name" in said]
        if len(set(names)) < len(names):
            raise ValidationError("Two credentials have the same name. Give each its own.")


class CredentialInline(TabularInline):
    """The house's alone; a tenant's own are on their own page. A secret goes in and never comes
    out: a new one takes the place of the one before."""

    model = Credential
    form = CredentialForm
    formset = HouseCredentials
    extra = 0
    tab = True
    fields = ["name", "secret", "enabled", "ends_with", "drained"]
    readonly_fields = ["ends_with", "drained"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        rows: QuerySet[Credential] = super().get_queryset(request)
        return rows.filter(tenant=None).select_related("provider")

    @admin.display(description="ends with")
    def ends_with(self, credential: Credential) -> str:
        return ends_with(credential)

    @admin.display(description="drained", empty_value="-")
    def drained(self, credential: Credential) -> str | None:
        """With the way to the page that does or ends it."""
        if credential.pk is None:
            return None
        where = reverse("admin:providers_credential_set_aside", args=[credential.pk])
        since = drained(credential)
        word = "Use again" if since else "Drain"
        return format_html('{} <a href="{}" class="underline">{}</a>', since or "no", where, word)


@admin.register(Credential)
class CredentialAdmin(ModelAdmin):
    form = CredentialForm
    list_display = ["provider", "name", "tenant", "ends_with", "enabled", "drained", "created_at"]
    list_filter = ["enabled", ("drained_at", EmptyFieldListFilter), "provider"]
    list_select_related = ["provider", "tenant"]
    search_fields = ["name", "provider__slug", "public_id"]
    fields = [
        "provider",
        "tenant",
        "name",
        "secret",
        "ends_with",
        "enabled",
        "drained",
        "public_id",
    ]
    autocomplete_fields = ["provider", "tenant"]
    actions = ["drain", "use_again"]
    actions_row = ["set_aside"]
    actions_detail = ["set_aside"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Provider and tenant stay: the secret was given for them and is sealed to the tenant."""
        kept = ["ends_with", "drained", "public_id"]
        return [*kept, "provider", "tenant"] if obj else kept

    @admin.display(description="ends with")
    def ends_with(self, credential: Credential) -> str:
        return ends_with(credential)

    @admin.display(description="drained", ordering="drained_at", empty_value="-")
    def drained(self, credential: Credential) -> str | None:
        return drained(credential)

    @admin.action(description="Drain: use it no more", permissions=["change"])
    def drain(self, request: HttpRequest, queryset: Collection[Credential]) -> HttpResponse | None:
        form = ReasonForm(request.POST if "sure" in request.POST else None)
        if not form.is_valid():
            back = reverse("admin:providers_credential_changelist")
            return asked(self, request, "drain", queryset, form=form, back=back)
        for credential in queryset:
            services.set_credential_aside(
                credential=credential, reason=f"by staff: {form.cleaned_data['reason']}"
            )
        self.message_user(request, "Used no more anywhere within a second.")
        return None

    @action(  # type: ignore[untyped-decorator]
        description="Drain or use again", icon="key_off", url_path="drain", permissions=["change"]
    )
    def set_aside(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The same of one, on a page that asks."""
        credential: Credential = self.row(request, object_id)
        back = reverse("admin:providers_credential_change", args=[credential.pk])
        if request.POST.get("action") == "use_again":
            self.use_again(request, [credential])
            return redirect(back)
        if credential.drained_at is not None:
            return asked(self, request, "use_again", [credential], form=forms.Form(), back=back)
        return self.drain(request, [credential]) or redirect(back)

    @admin.action(description="Use again", permissions=["change"])
    def use_again(self, request: HttpRequest, queryset: Iterable[Credential]) -> None:
        for credential in queryset:
            services.use_credential_again(credential=credential)
        self.message_user(request, "Used again everywhere within a second.")
