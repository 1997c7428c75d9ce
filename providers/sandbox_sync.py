"""Tells the sandbox what staff have put in force, so that test keys reach it as live ones do."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any, Final
from urllib.request import Request, urlopen

import orjson
import structlog
from django.conf import settings

from providers.definition_models import Definition

log = structlog.get_logger("patchbay.definitions")
Source, State = Definition.Source, Definition.State

SECONDS: Final = 2.0  # that one request to the sandbox may take


def sync_sandbox() -> int:
    """How many definitions the sandbox has learned or forgotten: it knows those in force that
    staff wrote, also after it started anew. While it is away, none."""
    url = settings.ENV.SANDBOX_URL.rstrip("/")
    try:
        return _told(f"{url}/_sandbox/definitions") if url else 0
    except (OSError, HTTPException, ValueError) as error:
        log.warning("sandbox_not_told", reason=str(error))
        return 0


def _told(url: str) -> int:
    known: dict[str, str] = _ask("GET", url)
    ours = Definition.objects.filter(source=Source.OPERATOR, state=State.ACTIVE)
    wanted = {row.slug: row for row in ours.defer("document", "examples")}
    new = [row for row in wanted.values() if known.get(row.slug) != _version(row)]
    old = known.keys() - wanted.keys()
    for row in ours.filter(pk__in=[row.pk for row in new]):
        told = {"version": _version(row), "document": row.document, "examples": row.examples}
        _ask("PUT", f"{url}/{row.slug}", told)
    for slug in old:
        _ask("DELETE", f"{url}/{slug}")
    return len(new) + len(old)


def _version(row: Definition) -> str:
    return f"{row.pk}-{row.checksum[:16]}"


def _ask(method: str, url: str, document: Any = None) -> Any:
    """Raises OSError and ValueError."""
    body = None if document is None else orjson.dumps(document)
    request = Request(url, body, method=method)  # noqa: S310 - the sandbox, by the settings
    with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        return orjson.loads(answer.read())
