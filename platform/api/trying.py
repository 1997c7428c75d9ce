"""Trying a version of a definition out, as the management API and the admin ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError

from lib.problems import InvalidRequest
from providers import definitions
from providers.catalogue import CatalogueError, CatalogueFile
from providers.definition_models import Definition
from providers.models import Provider
from providers.proving import Proof
from providers.trying import (
    Question,
    Trial,
    require_served,
    try_example,
    try_live,
    try_sandbox,
)

AGAINST: Final = ("example", "sandbox", "live")


def try_out(
    definition: Definition,
    *,
    operation: str,
    params: Mapping[str, Any],
    against: str,
    by: str,
    example: str = "",
) -> Trial:
    """Raises ValidationError for a text with faults, InvalidRequest for a call that the
    definition cannot make, RateLimited where the provider was sent enough lately."""
    file = _file(definition)
    require_served(file, operation)
    provider = Provider.objects.filter(slug=definition.slug).first()
    if against == "live":
        own = provider.settings if provider and file.manifest else {}
        question = Question(file, operation, params, own)
        return try_live(question, provider=provider, by=by)
    proof = definitions.proof_of(definition)
    if against == "sandbox":
        shown = [each.example for each in proof.results]
        return try_sandbox(Question(file, operation, params), shown)
    return _against_example(file, proof, operation, example, params)


def _file(definition: Definition) -> CatalogueFile:
    try:
        return definition.read()
    except CatalogueError as error:
        raise ValidationError({"document": error.faults}) from None


def _against_example(
    file: CatalogueFile, proof: Proof, operation: str, name: str, params: Mapping[str, Any]
) -> Trial:
    own = [each.example for each in proof.results if each.example.operation == operation]
    found = next((each for each in own if name in ("", each.name)), None)
    if found is None:
        names = ", ".join(each.name for each in own) or "none that can be read"
        raise InvalidRequest(f"The examples of {operation} are: {names}.", param="example")
    return try_example(Question(file, operation, params or found.params), found)
