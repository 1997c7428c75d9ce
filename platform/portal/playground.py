"""Try an operation with a test key, and see how to call it; and the page to begin with."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Set
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.utils import timezone

from api.pacing import NEW_KEYS, slow_down
from api.permissions import BUILDERS
from api.v1.catalogue import serving
from api.vitals import breakers_part
from lib.problems import Problem
from portal.page import Visit, page
from portal.samples import PLACEHOLDER, example_of, samples
from providers.operations import Kind, Operation, registry
from tenants import services
from tenants.keys import Mode
from tenants.models import Project

FIRST = "chat.completions"
KEY_LIVES = dt.timedelta(days=1)


@page(write=BUILDERS)
def start(visit: Visit) -> HttpResponse:
    """Code that runs as it stands: with a test key of the tenant's own, made on this page."""
    return _samples_page(
        visit, "portal/start.html", [registry()[FIRST], registry()["finance.quote"]]
    )


@page(write=BUILDERS)
def playground(visit: Visit) -> HttpResponse:
    known = registry()
    name = visit.request.GET.get("operation", FIRST)
    operation = known.get(name) or known[FIRST]
    return _samples_page(visit, "portal/playground.html", [operation], operations=sorted(known))


def _samples_page(visit: Visit, template: str, shown: list[Operation], **more: Any) -> HttpResponse:
    key, fault = PLACEHOLDER, ""
    if visit.request.method == "POST":
        try:
            key = _test_key(visit)
        except ValidationError as error:
            fault = " ".join(error.messages)
        except Problem as problem:
            fault = problem.detail
    base = visit.request.build_absolute_uri("/").rstrip("/")
    context = {
        "key": key if key != PLACEHOLDER else "",
        "fault": fault,
        "shown": [_shown(operation, base, key) for operation in shown],
        **more,
    }
    return visit.render(template, context, status=400 if fault else 200)


def _shown(operation: Operation, base: str, key: str) -> dict[str, Any]:
    example = example_of(operation)
    return {
        "operation": operation,
        "has_fields": operation.kind in (Kind.DATA, Kind.TRANSCRIPTION),
        "fields": _fields(operation, example),
        "body": json.dumps(example, indent=2, ensure_ascii=False),
        "samples": samples(operation, example, base, key),
    }


def _fields(operation: Operation, example: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of a query or a form, as inputs."""
    schema = operation.request_schema
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "help": about.get("description", ""),
            "value": example.get(name, ""),
            "choices": about.get("enum", ()),
            "required": name in required,
            "is_file": about.get("format") == "binary",
        }
        for name, about in schema.get("properties", {}).items()
        if about.get("enum") != [False]  # nothing to choose
    ]


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


@page()
def status(visit: Visit) -> HttpResponse:
    """Each operation, and whether it can be called."""
    by_operation = serving()
    resting = {breaker["name"] for breaker in breakers_part()["resting"]}
    rows = [
        {"name": name, "summary": operation.summary, **_state(by_operation[name], resting)}
        for name, operation in sorted(registry().items())
    ]
    return visit.render("portal/status.html", {"rows": rows})


def _state(providers: list[dict[str, str]], resting: Set[str]) -> dict[str, Any]:
    ready = [one["slug"] for one in providers if one["status"] == "ready"]
    well = [slug for slug in ready if slug not in resting]
    state = "sandbox only" if not ready else "down" if not well else "ok"
    if well and len(well) < len(ready):
        state = "degraded"
    return {"providers": len(providers), "ready": len(well), "state": state}
