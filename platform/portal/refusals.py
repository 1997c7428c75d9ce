"""What a service refused, told beside the field that it is about."""

from __future__ import annotations

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


def tell(form: forms.Form, error: ValidationError) -> None:
    told = getattr(error, "error_dict", {NON_FIELD_ERRORS: error.messages})
    for name, faults in told.items():
        form.add_error(name if name in form.fields else None, faults)
