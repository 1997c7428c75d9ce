"""Reads the catalogue's files. A fault is told with its file, line and place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from jsonschema_rs import Draft202012Validator

from providers.adapters.manifest import (
    Fault,
    Manifest,
    ManifestError,
    compile_manifest,
    manifest_schema,
)
from providers.catalogue.located import LocatedDocument, YamlError, read_yaml
from providers.operations.checking import faults
from providers.secret_form import written

FOLDER: Final = Path(__file__).parent
MAX_CHARACTERS: Final = 128 * 1024


class Line(NamedTuple):
    """What is wrong, and where."""

    file: str
    number: int
    words: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.words}"


class CatalogueError(ValueError):
    """A file of the catalogue is not right. `faults` are `lines` as text: `file:line: words`."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.faults = [str(line) for line in lines]
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """One provider as shipped. `manifest` is None for an AI provider.

    `checksum` is of the content: it stays when only comments or layout change. `text` is the
    document as it was written.
    """

    path: Path
    document: Mapping[str, Any]
    checksum: str
    manifest: Manifest | None
    text: str = ""

    @property
    def slug(self) -> str:
        return str(self.document["slug"])

    @property
    def adapter(self) -> str:
        return str(self.document["adapter"])

    @property
    def enabled(self) -> bool:
        """False for what staff must switch on knowingly."""
        return bool(self.document.get("enabled", True))

    @property
    def needs_credential(self) -> bool:
        if self.manifest:
            return self.manifest.needs_credential
        return "credential" in self.document

    @property
    def credential_env(self) -> str:
        """The environment variable that holds the secret, or its first part; "" for a keyless
        provider."""
        credential = self.document.get("credential", {})
        named = [credential, *credential.get("parts", {}).values()]
        return str(next((each["env"] for each in named if "env" in each), ""))

    def secret(self, value_of: Callable[[str], str]) -> str:
        """The secret, where `value_of(variable)` knows all of it; else ""."""
        parts = self.document.get("credential", {}).get("parts")
        if not parts:
            return value_of(self.credential_env) if self.credential_env else ""
        found = {name: value_of(part["env"]) for name, part in parts.items()}
        needed = [name for name, part in parts.items() if not part.get("optional", False)]
        known = {name: value for name, value in found.items() if value}
        return written(known) if all(name in known for name in needed) else ""

    @property
    def models(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.document.get("models", ()))

    @property
    def operations(self) -> tuple[str, ...]:
        """What the provider serves, sorted."""
        served = set(self.document.get("operations", ()))
        return tuple(sorted(served | {model["operation"] for model in self.models}))


def load_documents(folder: Path = FOLDER) -> list[CatalogueFile]:
    """Every provider, by file name. Raises CatalogueError with the faults of all files."""
    files: list[CatalogueFile] = []
    found: list[Line] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            files.append(read_document(path))
        except CatalogueError as error:
            found += error.lines
    if found:
        raise CatalogueError(found)
    return files


def read_document(path: Path) -> CatalogueFile:
    """Raises CatalogueError."""
    return parse_document(path.read_text("utf-8"), path)


def parse_document(text: str, path: Path) -> CatalogueFile:
    """The provider that a text writes, whoever wrote it; `path` is what faults are told with, and
    its name that of the provider. Raises CatalogueError with every fault."""
    if len(text) > MAX_CHARACTERS:
        raise CatalogueError([Line(path.name, 1, f"Has more than {MAX_CHARACTERS} characters.")])
    try:
        located = read_yaml(text)
    except YamlError as error:
        raise CatalogueError([Line(path.name, error.line, str(error))]) from None
    document = located.document
    if not _is_json(document):
        raise CatalogueError([Line(path.name, 1, "Holds what JSON has no form for.")])
    if not _validator().is_valid(document):
        found = [Fault(place, told) for told, place in faults(_validator(), document)]
        raise CatalogueError(_told(path, located, found))
    if document["slug"] != path.stem:
        fault = Fault(("slug",), f"Is not the file's name, {path.stem}.")
        raise CatalogueError(_told(path, located, [fault]))
    return CatalogueFile(path, document, _checksum(document), _compiled(path, located), text)


def _is_json(document: Mapping[str, Any]) -> bool:
    """No bytes, sets, NaN and so on; and no NUL, which not every database keeps."""
    try:
        return "\\u0000" not in json.dumps(document, allow_nan=False)
    except (TypeError, ValueError):
        return False


def _compiled(path: Path, located: LocatedDocument) -> Manifest | None:
    if located.document["adapter"] != "manifest":
        return None
    try:
        return compile_manifest(located.document)
    except ManifestError as error:
        raise CatalogueError(_told(path, located, error.faults)) from None


def _told(path: Path, located: LocatedDocument, found: list[Fault]) -> list[Line]:
    return [Line(path.name, located.line(fault.place), _printable(str(fault))) for fault in found]


def _printable(words: str) -> str:
    """A key of the text may be anything, also what a terminal takes for an order."""
    return "".join(each if each.isprintable() else "?" for each in words)


def _checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def catalogue_schema() -> dict[str, Any]:
    """The JSON Schema of every file: a manifest, or an AI provider by its `adapter`."""
    ai = yaml.load((FOLDER / "schemas" / "ai.yaml").read_text("utf-8"), yaml.CSafeLoader)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A provider of the catalogue",
        "type": "object",
        "required": ["adapter"],
        "properties": {"adapter": {"enum": ["manifest", *ai["properties"]["adapter"]["enum"]]}},
        "if": {"properties": {"adapter": {"const": "manifest"}}},
        "then": {"$ref": "#/$defs/manifest"},
        "else": {"$ref": "#/$defs/ai"},
        "$defs": {
            "manifest": {"$id": "urn:patchbay:manifest", **manifest_schema()},
            "ai": {"$id": "urn:patchbay:ai-provider", **ai},
        },
    }


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(catalogue_schema(), validate_formats=True)
