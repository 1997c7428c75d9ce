"""The admin's forms for targets: what must be so of all targets of a route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.models import BaseInlineFormSet

from providers.models import Model, Target
from providers.operations import Kind, registry
from providers.operations.models import vectors_clash


class TargetForm(forms.ModelForm):  # type: ignore[type-arg]
    """One target, on a page of its own."""

    def clean(self) -> dict[str, Any]:
        told: dict[str, Any] = super().clean() or self.cleaned_data
        route = told.get("route") or (self.instance.route if self.instance.pk else None)
        if route is not None and told.get("model"):
            others = Target.objects.filter(route=route).exclude(pk=self.instance.pk)
            models = [target.model for target in others.select_related("model") if target.model]
            _check_vectors(route.operation, [*models, told["model"]])
        return told


class RoutesTargets(BaseInlineFormSet):  # type: ignore[type-arg]
    """All targets of a route, on the route's page."""

    def clean(self) -> None:
        super().clean()
        told = [form.cleaned_data for form in self.forms if hasattr(form, "cleaned_data")]
        kept = [each for each in told if each.get("model") and not each.get("DELETE")]
        kept.sort(key=lambda each: each.get("position") or 0)
        _check_vectors(self.instance.operation, [each["model"] for each in kept])


def _check_vectors(operation: str, models: Sequence[Model]) -> None:
    """Raises ValidationError for a route of embeddings that would lead to two models."""
    known = registry().get(operation)
    if known is None or known.kind is not Kind.EMBEDDINGS:
        return
    for model in models[1:]:
        if clash := vectors_clash(models[0].model_id, model.model_id):
            raise ValidationError(clash)
