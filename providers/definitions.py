"""Versions of definitions: made, compared, kept. Putting one in force is the management API's
part (api/configuration/activating.py), for prices and routes hang on it."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import structlog
import yaml
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from providers.catalogue import CatalogueError, CatalogueFile, read_examples
from providers.catalogue.documents import FOLDER as CATALOGUE
from providers.catalogue.documents import MAX_CHARACTERS
from providers.catalogue.examples import FOLDER as EXAMPLES
from providers.definition_models import Definition
from providers.models import Provider
from providers.proving import MAX_EXAMPLE_BYTES, Proof, prove

log = structlog.get_logger("patchbay.definitions")

KEPT: Final = 10
TEMPLATES: Final = CATALOGUE / "templates"
MAX_DIFF_LINES: Final = 5000
_UNKEEPABLE: Final = re.compile("[\0\ud800-\udfff]")
State, Source = Definition.State, Definition.Source


@transaction.atomic
def create(
    *, slug: str, document: str, examples: Any, by: str, note: str = "", source: str = ""
) -> Definition:
    """A new version, not in force yet, whatever faults it has: `proof_of` tells them.

    Raises ValidationError for what is not kept at all.
    """
    _check_kept(document, examples)
    versions = locked(slug)
    row = Definition(
        slug=slug,
        version=max((row.version for row in versions), default=0) + 1,
        source=source or Source.OPERATOR,
        document=document,
        examples=examples,
        by=by[:100],
        note=note,
    )
    row.checksum = _checksum(row)
    row.full_clean()
    _save_new(row)
    _forget_old(slug)
    log.info("definition_made", provider=slug, version=row.version, by=by)
    return row


@transaction.atomic
def adopt(*, provider: Provider, by: str) -> None:
    """What is in force and came another way than through a version (a configuration file, an
    older release) becomes the version in force, to be looked at and rolled back to."""
    versions = locked(provider.slug)
    active = next((row for row in versions if row.state == State.ACTIVE), None)
    if not provider.manifest or (active and _document(active) == provider.manifest):
        return
    row = create(slug=provider.slug, document=written(provider.manifest), examples=[], by=by)
    Definition.objects.filter(slug=provider.slug, state=State.ACTIVE).update(state=State.RETIRED)
    Definition.objects.filter(pk=row.pk).update(
        state=State.ACTIVE, activated_at=timezone.now(), note="As it was found in force."
    )


def locked(slug: str) -> list[Definition]:
    """A provider's versions, the newest first, which nobody else changes meanwhile."""
    return list(Definition.objects.select_for_update().filter(slug=slug).order_by("-version"))


def record_shipped(files: Sequence[CatalogueFile], following: Mapping[str, bool]) -> None:
    """Every file that is not the newest shipped version of its provider becomes that: in force
    where the provider follows the catalogue, else there to be looked at."""
    known = dict(
        Definition.objects.filter(source=Source.BUILTIN)
        .order_by("version")
        .values_list("slug", "checksum")
    )
    new = [file for file in files if known.get(file.slug) != file.checksum]
    if not new:
        return
    slugs = [file.slug for file in new]
    last = dict(
        Definition.objects.filter(slug__in=slugs)
        .values_list("slug")
        .annotate(last=Max("version"))
        .values_list("slug", "last")
    )
    followed = [slug for slug in slugs if following.get(slug)]
    Definition.objects.filter(slug__in=followed, state=State.ACTIVE).update(state=State.RETIRED)
    Definition.objects.bulk_create(
        Definition(
            slug=file.slug,
            version=last.get(file.slug, 0) + 1,
            source=Source.BUILTIN,
            document=file.text or written(file.document),
            checksum=file.checksum,
            state=State.ACTIVE if following.get(file.slug) else State.DRAFT,
            by="load_catalogue",
        )
        for file in new
    )
    for slug in last:
        _forget_old(slug)


def examples_of(definition: Definition) -> list[dict[str, Any]]:
    """Its examples' documents; of a shipped version those that ship now."""
    if definition.source == Source.BUILTIN:
        return read_examples(EXAMPLES / definition.slug)
    examples: list[dict[str, Any]] = definition.examples
    return examples


def proof_of(definition: Definition) -> Proof:
    return prove(definition.slug, definition.document, examples_of(definition))


def newer_shipped(definition: Definition) -> Definition | None:
    """The newest shipped version, if it came after this one."""
    shipped = newest_shipped(definition.slug)
    return shipped if shipped and shipped.version > definition.version else None


def newest_shipped(slug: str) -> Definition | None:
    return Definition.objects.filter(slug=slug, source=Source.BUILTIN).order_by("-version").first()


def previous(definition: Definition) -> Definition | None:
    """What was in force last before this one, if it is still kept."""
    retired = Definition.objects.filter(slug=definition.slug, state=State.RETIRED)
    return retired.exclude(pk=definition.pk).order_by("-activated_at", "-version").first()


def difference(old: Definition, new: Definition) -> list[str]:
    """The lines of a unified diff of two documents and of their examples."""
    texts = [(old.document, new.document), (_examples_text(old), _examples_text(new))]
    lines: list[str] = []
    for name, (before, after) in zip(("document", "examples"), texts, strict=True):
        lines += difflib.unified_diff(
            before.splitlines(),
            after.splitlines(),
            f"v{old.version} {name}",
            f"v{new.version} {name}",
            lineterm="",
        )
    return lines[:MAX_DIFF_LINES]


def written(document: Mapping[str, Any]) -> str:
    """A document as YAML, for one that nobody wrote."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)


def template(kind: str, slug: str) -> tuple[str, list[dict[str, Any]]]:
    """A document to begin with, `rest` or `ai`, and its examples."""
    text = (TEMPLATES / f"{kind}.yaml").read_text("utf-8")
    variable = f"{slug.upper().replace('-', '_')}_API_KEY"
    examples: list[dict[str, Any]] = orjson.loads((TEMPLATES / f"{kind}.json").read_bytes())
    name = variable if variable[0].isalpha() else f"X_{variable}"
    return text.replace("SLUG", slug).replace("ENV_NAME", name), examples


def _examples_text(definition: Definition) -> str:
    return written({each["name"]: each for each in examples_of(definition) if "name" in each})


def _save_new(row: Definition) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        text = "Another version was made at the same time. Try again."
        raise ValidationError({"version": text}) from None


def _document(definition: Definition) -> Any:
    """As it is in a provider's row; None for a text with faults."""
    try:
        return json.loads(json.dumps(definition.read().document))
    except CatalogueError:
        return None


def _check_kept(document: str, examples: Any) -> None:
    """Raises ValidationError. What is refused here could not be shown or stored either."""
    if len(document) > MAX_CHARACTERS or _UNKEEPABLE.search(document):
        text = f"Must be at most {MAX_CHARACTERS} characters, each of them whole and none NUL."
        raise ValidationError({"document": text})
    if not _can_be_kept(examples):
        text = f"Must be a list of objects, {MAX_EXAMPLE_BYTES // 1024} KiB at most, without NUL."
        raise ValidationError({"examples": text})


def _can_be_kept(examples: Any) -> bool:
    if not isinstance(examples, list) or not all(isinstance(each, dict) for each in examples):
        return False
    try:
        text = orjson.dumps(examples)
    except TypeError:  # too deep, or half a character
        return False
    return len(text) <= MAX_EXAMPLE_BYTES and b"\\u0000" not in text


def _checksum(definition: Definition) -> str:
    try:
        return definition.read().checksum
    except CatalogueError:
        return hashlib.sha256(definition.document.encode("utf-8", "replace")).hexdigest()


def _forget_old(slug: str) -> None:
    """All but the last ones go. What is in force stays, and what ships now."""
    rows = Definition.objects.filter(slug=slug)
    kept = set(rows.order_by("-version").values_list("pk", flat=True)[:KEPT])
    if shipped := newest_shipped(slug):
        kept.add(shipped.pk)
    rows.exclude(pk__in=kept).exclude(state=State.ACTIVE).delete()
