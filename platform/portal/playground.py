"""Try an operation with a test key, and see how to call it; and the page to begin with."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.utils import timezone

from api.operation_examples import RECORDING, example_of
from api.pacing import NEW_KEYS, slow_down
from api.permissions import BUILDERS
from lib.problems import Problem
from portal.page import Visit, page
from portal.samples import PLACEHOLDER, openai_sample, samples
from providers.operations import Kind, Operation, registry
from tenants import services
from tenants.keys import Mode
from tenants.models import Project

FIRST = "chat.completions"
KEY_LIVES = dt.timedelta(days=1)


@page(write=BUILDERS)
def start(visit: Visit) -> HttpResponse:
    """Code that runs as it stands: with a test key of the tenant's own, made on this page."""
    key, fault = _key_wanted(visit)
    operations = [registry()[FIRST], registry()["finance.quote"]]
    base = _base(visit)
    context = {
        "key": key,
        "fault": fault,
        "base": base,
        "sdk": openai_sample(base, key or PLACEHOLDER),
        "shown": [_as_code(each, example_of(each), base, key) for each in operations],
    }
    return visit.render("portal/start.html", context, status=400 if fault else 200)


@page(write=BUILDERS)
def playground(visit: Visit) -> HttpResponse:
    key, fault = _key_wanted(visit)
    operation = _operation(visit)
    return _playground(visit, operation, example_of(operation), key=key, fault=fault)


@page(read=frozenset())
def code(visit: Visit) -> HttpResponse:
    """What was typed in, as code. Nothing is sent, and nothing is kept."""
    operation, wrong = _operation(visit), ""
    parameters = example_of(operation)
    try:
        parameters = _typed(operation, visit.request.POST)
    except ValueError as error:
        wrong = str(error)
    return _playground(visit, operation, parameters, wrong=wrong)


def _operation(visit: Visit) -> Operation:
    known = registry()
    return known.get(visit.request.GET.get("operation", FIRST)) or known[FIRST]


def _has_fields(operation: Operation) -> bool:
    return operation.kind in (Kind.DATA, Kind.TRANSCRIPTION)


def _playground(
    visit: Visit, operation: Operation, parameters: Mapping[str, Any], **told: str
) -> HttpResponse:
    fields = _fields(operation, parameters)
    context = {
        "operations": sorted(registry()),
        "one": _as_code(operation, parameters, _base(visit), told.get("key", "")),
        "has_fields": _has_fields(operation),
        "fields": [field for field in fields if field["required"]],
        "more": [field for field in fields if not field["required"]],
        "recording": RECORDING if operation.kind is Kind.TRANSCRIPTION else "",
        "body": visit.request.POST.get("body") or _json(parameters),
        **told,
    }
    return visit.render("portal/playground.html", context, status=400 if told.get("fault") else 200)


def _base(visit: Visit) -> str:
    return visit.request.build_absolute_uri("/").rstrip("/")


def _json(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, indent=2, ensure_ascii=False)


def _as_code(
    operation: Operation, parameters: Mapping[str, Any], base: str, key: str
) -> dict[str, Any]:
    code = samples(operation, parameters, base, key or PLACEHOLDER)
    return {"operation": operation, "samples": code}


def _typed(operation: Operation, form: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of the form. Raises ValueError, which says what is wrong."""
    if _has_fields(operation):
        names = operation.request_schema.get("properties", {})
        typed = {name: form.get(name, "") for name in names}
        if operation.kind is Kind.TRANSCRIPTION:
            typed["file"] = typed["file"] or RECORDING
        return {name: text for name, text in typed.items() if text}
    try:
        body = json.loads(form.get("body", ""))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"The body is no JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise ValueError("The body is nested too deeply.") from None
    if not isinstance(body, dict):
        raise ValueError('The body must be a JSON object, such as {"model": "fast"}.')
    return body


def _fields(operation: Operation, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a query or a form, as inputs."""
    schema = operation.request_schema
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "help": about.get("description", ""),
            "value": parameters.get(name, ""),
            "choices": _choices(about),
            "kind": "number" if _is_of(about, "number", "integer") else "text",
            "required": name in required,
            "is_file": about.get("format") == "binary",
        }
        for name, about in schema.get("properties", {}).items()
        if about.get("enum") != [False]  # nothing to choose
    ]


def _choices(about: Mapping[str, Any]) -> Sequence[Any]:
    return ("true", "false") if _is_of(about, "boolean") else about.get("enum", ())


def _is_of(about: Mapping[str, Any], *types: str) -> bool:
    told = about.get("type", ())
    return not set(types).isdisjoint([told] if isinstance(told, str) else told)


def _key_wanted(visit: Visit) -> tuple[str, str]:
    """A new test key where one is asked for, and why there is none."""
    if visit.request.method != "POST":
        return "", ""
    try:
        return _test_key(visit), ""
    except ValidationError as error:
        return "", " ".join(error.messages)
    except Problem as problem:
        return "", problem.detail


def _test_key(visit: Visit) -> str:
    """A key of its own, which ends by itself. Raises ValidationError, Problem."""
    slow_down(visit.request, group="new-keys", rate=NEW_KEYS, tenant=visit.tenant.public_id)
    project = Project.objects.of(visit.tenant).order_by("pk").first()
    if project is None:
        raise ValidationError("There is no project. Make one first.")
    _, text = services.create_key(
        project=project,
        name="made on the playground",
        mode=Mode.TEST,
        expires_at=timezone.now() + KEY_LIVES,
    )
    return text
