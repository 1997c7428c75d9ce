"""The admin's forms for the switchboard, and the page on which an action asks why."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from lib.rows import LinesField
from providers import services
from providers.models import BreakerOverride
from providers.operations import Kind, registry

_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=190, widget=UnfoldAdminTextInputWidget, help_text="Others will want to know."
    )


class OverrideForm(forms.Form):
    """What staff say to a breaker, why, and for how long."""

    state = forms.ChoiceField(
        label="What to do",
        choices=[
            (BreakerOverride.To.FORCED_OPEN, "Force it open: no calls go there"),
            (BreakerOverride.To.DISABLED, "Disable it: all calls go there, nothing is counted"),
            (BreakerOverride.To.CLOSED, "Close and reset it: nothing counted so far"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    reason = forms.CharField(
        max_length=500, widget=UnfoldAdminTextInputWidget, help_text="Others will want to know."
    )
    minutes = forms.IntegerField(
        min_value=1,
        max_value=31 * 24 * 60,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="After which it ends by itself: 60 is an hour, 1440 a day. Empty: until it is "
        "closed here.",
    )

    @property
    def expires_at(self) -> dt.datetime | None:
        minutes = self.cleaned_data["minutes"]
        return timezone.now() + dt.timedelta(minutes=minutes) if minutes else None


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret goes in and never comes out."""

    secret = forms.CharField(
        max_length=10_000,
        widget=UnfoldAdminPasswordWidget(
            render_value=False, attrs={"autocomplete": "new-password"}
        ),
        required=False,
        strip=True,
        help_text="Write-only. Leave it empty to keep the present one. One of several parts is a "
        'JSON object: {"client_id": "…", "client_secret": "…"}.',
    )

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"]
        if not secret and not self.instance.sealed:
            raise ValidationError("A new credential needs a secret.")
        if not secret.isascii() or not secret.isprintable():
            raise ValidationError("A secret has printable ASCII characters only.")
        return secret

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        secret = cleaned.get("secret")
        provider = cleaned.get("provider") or (self.instance.provider if self.instance.pk else None)
        if secret and provider and (fault := services.secret_form(provider).fault(secret)):
            self.add_error("secret", fault)
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if secret := self.cleaned_data.get("secret"):
            self.instance.set_secret(secret)
        return super().save(commit)


class ModelForm(forms.ModelForm):  # type: ignore[type-arg]
    operation = forms.ChoiceField(
        choices=lambda: [
            (name, name)
            for name, operation in sorted(registry().items())
            if operation.kind is not Kind.DATA
        ],
        initial="chat.completions",
        widget=UnfoldAdminSelectWidget,
    )
    capabilities = LinesField(
        required=False,
        help_text="One a line: streaming, tools, vision, json_schema or reasoning.",
    )

    def clean_capabilities(self) -> list[str]:
        said: Any = self.cleaned_data["capabilities"] or []
        if not isinstance(said, list) or not all(_WORD.match(str(each)) for each in said):
            raise ValidationError("Write words of letters, digits and _, one a line.")
        return said

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        context, output = cleaned.get("context"), cleaned.get("max_output")
        if context and output and output > context:
            self.add_error("max_output", "An answer is part of the context: it cannot be longer.")
        return cleaned
