"""What can be asked, and who would answer."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.serializers import Shown
from api.vitals import provider_states
from providers.models import Model, Target
from providers.models import Operation as OperationRow
from providers.operations import Kind, Operation, registry
from providers.surfaces import FORMS

SERVING = [("ready", "ready"), ("needs_credential", "needs_credential")]
STATES = [("ready", "ready"), ("sandbox", "sandbox"), ("disabled", "disabled")]


class ServingShown(Shown):
    slug = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(
        choices=SERVING,
        help_text="needs_credential: answers test-mode calls only.",
    )


class FormShown(Shown):
    name = serializers.CharField()
    summary = serializers.CharField()
    path = serializers.CharField()


class OperationShown(Shown):
    name = serializers.CharField()
    summary = serializers.CharField()
    method = serializers.CharField()
    path = serializers.CharField()
    status = serializers.ChoiceField(
        choices=STATES,
        help_text="sandbox: no provider is ready for live calls.",
    )
    request_schema = serializers.JSONField()
    response_schema = serializers.JSONField()
    providers = ServingShown(many=True)
    forms = FormShown(many=True, help_text="Other dialects in which the same call is taken.")


class CategoryShown(Shown):
    name = serializers.CharField()
    operations = OperationShown(many=True)


class CatalogueShown(Shown):
    data = CategoryShown(many=True)  # type: ignore[assignment]  # a field, not Serializer.data


class Catalogue(APIView):
    @extend_schema(operation_id="catalogue", tags=["catalogue"], responses=CatalogueShown)
    def get(self, request: Request) -> Response:
        """Categories, their operations with JSON Schemas, and the providers that serve each."""
        by_operation = serving()
        disabled = set(OperationRow.objects.filter(enabled=False).values_list("name", flat=True))
        categories: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for operation in registry().values():
            shown = _operation(operation, by_operation[operation.name], operation.name in disabled)
            categories[operation.category].append(shown)
        return Response(
            {"data": [{"name": n, "operations": ops} for n, ops in sorted(categories.items())]}
        )


def serving() -> dict[str, list[dict[str, str]]]:
    """Enabled providers by operation, each once, in the order of their slugs."""
    states = provider_states()
    pairs = set(
        Target.objects.filter(enabled=True, route__enabled=True).values_list(
            "route__operation", "provider_id"
        )
    ) | set(Model.objects.filter(enabled=True).values_list("operation", "provider_id"))
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for operation, provider_id in pairs:
        if provider_id in states:
            found[operation].append(states[provider_id])
    for providers in found.values():
        providers.sort(key=lambda provider: provider["slug"])
    return found


def _operation(
    operation: Operation, providers: list[dict[str, str]], is_disabled: bool
) -> dict[str, Any]:
    is_ready = any(provider["status"] == "ready" for provider in providers)
    return {
        "name": operation.name,
        "summary": operation.summary,
        "method": operation.method,
        "path": operation.path,
        "status": "disabled" if is_disabled else "ready" if is_ready else "sandbox",
        "request_schema": operation.request_schema,
        "response_schema": operation.response_schema,
        "providers": providers,
        "forms": [
            {"name": form.name, "summary": form.summary, "path": form.path}
            for form in FORMS.values()
            if operation.kind is Kind.CHAT
        ],
    }
