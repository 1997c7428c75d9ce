"""Compiles a manifest: all that can be wrong with one is found here, and nothing later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from jsonschema_rs import Draft202012Validator

from lib.egress import is_public
from providers.adapters.manifest.compiling_parts import Parts
from providers.adapters.manifest.definition import (
    Fault,
    Manifest,
    ManifestError,
    ManifestOperation,
    Place,
)
from providers.adapters.manifest.mapping import EXTRA, Field
from providers.adapters.manifest.request import Auth, RequestTemplate
from providers.call import Grant
from providers.operations import Kind, Operation, registry
from providers.operations.checking import faults

_KEPT_HEADERS: Final = frozenset(
    {"authorization", "cookie", "host", "content-length", "transfer-encoding", "connection"}
)
_TOLD: Final = frozenset({"limit", "cursor"})


@cache
def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest."""
    text = Path(__file__).with_name("schema.yaml").read_text("utf-8")
    schema: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
    return schema


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(manifest_schema(), validate_formats=True)


def compile_manifest(document: Mapping[str, Any]) -> Manifest:
    """The manifest that `document` writes. Raises ManifestError with every fault."""
    if not _validator().is_valid(document):
        raise ManifestError([Fault(place, told) for told, place in faults(_validator(), document)])
    compiler = _Compiler(document)
    manifest = compiler.manifest()
    if compiler.faults:
        raise ManifestError(compiler.faults)
    return manifest


class _Compiler(Parts):
    """Goes through one well-shaped document and notes every fault instead of stopping at one."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document.get("tables", {}))
        self.document = document

    def manifest(self) -> Manifest:
        document = self.document
        self._check_head()
        operations = self._operations()
        self._check_verification()
        return Manifest(
            slug=document["slug"],
            name=document["name"],
            base_url=document["base_url"],
            auth=self._auth(),
            headers=dict(document.get("headers", {})),
            rules=self.rules(document.get("errors", []), ("errors",)),
            operations=operations,
            attribution=tuple(document.get("attribution", [])),
            needs_credential=self._needs_credential,
            max_retention=document.get("cache", {}).get("max_retention"),
        )

    @property
    def _needs_credential(self) -> bool:
        auth = self.document["auth"]
        return auth["type"] != "none" and not auth.get("optional", False)

    def _auth(self) -> Auth:
        auth = self.document["auth"]
        return Auth(
            auth["type"],
            auth.get("name", ""),
            auth.get("prefix", ""),
            names=dict(auth.get("names", {})),
            grant=self._grant() if auth["type"] == "oauth2" else None,
        )

    def _grant(self) -> Grant:
        auth = self.document["auth"]
        self._check_url(auth["token_url"], ("auth", "token_url"))
        return Grant(auth["token_url"], auth.get("scope", ""), auth.get("client") == "body")

    def _check_head(self) -> None:
        self._check_url(self.document["base_url"], ("base_url",))
        for name in _KEPT_HEADERS & set(self.document.get("headers", {})):
            self.fault(("headers", name), "Is not a manifest's to send; `auth` carries secrets.")
        credential = self.document.get("credential", {})
        if credential and self.document["auth"]["type"] == "none":
            self.fault(("credential",), "There is no `auth` to carry it.")
        self._check_parts(credential)

    def _check_url(self, text: str, place: Place) -> None:
        try:
            url = urlsplit(text)
            host, _ = url.hostname or "", url.port
        except ValueError:
            self.fault(place, "Is no URL.")
            return
        if url.scheme != "https" and not _is_local(host):
            self.fault(place, "Must be https.")
        if not host or "@" in url.netloc:
            self.fault(place, "Must name a host, and no user.")

    def _check_parts(self, credential: Mapping[str, Any]) -> None:
        place: Place = ("credential",)
        self._check_shape(credential.get("shape", ""), place)
        parts = credential.get("parts", {})
        for name, part in parts.items():
            self._check_shape(part.get("shape", ""), (*place, "parts", name))
        form = self._auth().secret_form
        needed = set() if form.whole and not parts else set(form.parts)
        if credential and needed != set(parts):
            told = ", ".join(sorted(needed)) or "none"
            self.fault((*place, "parts"), f"Must be those that `auth` carries: {told}.")

    def _check_shape(self, shape: str, place: Place) -> None:
        try:
            re.compile(shape)
        except re.error as error:
            self.fault((*place, "shape"), f"Is no regular expression: {error}.")

    def _check_verification(self) -> None:
        verification = self.document["verification"]
        name = verification["operation"]
        if name not in self.document["operations"]:
            self.fault(("verification", "operation"), "The manifest does not have this operation.")
        elif name in registry() and not registry()[name].request_validator.is_valid(
            verification["params"]
        ):
            self.fault(("verification", "params"), "Are not what the operation takes.")

    def _operations(self) -> dict[str, ManifestOperation]:
        found = {}
        for name, source in self.document["operations"].items():
            operation = registry().get(name)
            if operation is None or operation.kind is not Kind.DATA:
                self.fault(("operations", name), "There is no such data operation.")
            else:
                found[name] = self._operation(operation, source)
        return found

    def _operation(self, operation: Operation, source: Mapping[str, Any]) -> ManifestOperation:
        place: Place = ("operations", operation.name)
        self.known_params = frozenset(operation.parameters) | _TOLD
        self._check_kind(operation, source, place)
        cache_ttl = source.get("cache", self.document.get("cache", {})).get("ttl")
        records, total = source.get("records"), source.get("total")
        fields = self._fields(operation, source["map"], (*place, "map"))
        return ManifestOperation(
            operation=operation,
            request=self._request(operation, source["request"], (*place, "request")),
            fields=tuple(field for field in fields if not field.is_extra),
            extras=tuple(field for field in fields if field.is_extra),
            rules=self.rules(source.get("errors", []), (*place, "errors"), body_only=True),
            records=records and self.expression(records, (*place, "records")),
            skip_incomplete=source.get("incomplete") == "skip",
            total=None if total is None else self.source(total, (*place, "total")),
            not_found_without=source.get("not_found_without", ""),
            cache_ttl=cache_ttl,
            units=source.get("units", 1),
            examples=tuple(source["examples"]),
        )

    def _check_kind(self, operation: Operation, source: Mapping[str, Any], place: Place) -> None:
        for name in ("total", "incomplete"):
            if name in source and not operation.is_list:
                self.fault((*place, name), "Is only for an operation that answers with a list.")
        if operation.is_list and "not_found_without" in source:
            self.fault((*place, "not_found_without"), "Is not for an operation with a list.")
        if source.get("not_found_without") not in {None, *source["map"]}:
            self.fault((*place, "not_found_without"), "Is not among the mapped fields.")

    def _request(
        self, operation: Operation, source: Mapping[str, Any], place: Place
    ) -> RequestTemplate:
        query = source.get("query", {})
        template = RequestTemplate(
            method=source.get("method", "GET"),
            path=self.template(source["path"], (*place, "path")),
            query=tuple(
                (name, self.template(text, (*place, "query", name))) for name, text in query.items()
            ),
            prepare={
                name: self.steps(steps, (*place, "prepare", name))
                for name, steps in source.get("prepare", {}).items()
            },
            picks=frozenset(source.get("picks", ())),
        )
        for name in sorted((template.picks | set(template.prepare)) - self.known_params):
            self.unknown_param(name, place)
        required = set(operation.request_schema.get("required", ()))
        for name in sorted(required - template.params):
            self.fault(place, f"Does not tell the provider `{name}`, which every call has.")
        for name in sorted(template.path.required - required):
            self.fault((*place, "path"), f"`{name}` may be absent: give it a default.")
        return template

    def _fields(self, operation: Operation, source: Mapping[str, Any], place: Place) -> list[Field]:
        fields = [
            Field(tuple(name.split(".")), self.source(spec, (*place, name)))
            for name, spec in source.items()
        ]
        mapped = {field.path for field in fields}
        for path in sorted(mapped):
            if not _is_canonical(operation.response_schema, path):
                self.fault((*place, ".".join(path)), "The operation's answer has no such field.")
        for path in _required(operation.response_schema):
            if not any(
                path[: len(known)] == known or known[: len(path)] == path for known in mapped
            ):
                self.fault(place, f"Lacks `{'.'.join(path)}`, which every answer has.")
        for path in sorted(path for path in mapped if path[:1] in mapped and len(path) > 1):
            self.fault((*place, ".".join(path)), f"`{path[0]}` is mapped as a whole already.")
        return fields


def _is_local(host: str) -> bool:
    """Loopback and private addresses written as numbers, and `localhost`."""
    is_literal = bool(re.fullmatch(r"[0-9.]+|.*:.*", host))
    return host == "localhost" or (is_literal and not is_public(host))


def _is_canonical(schema: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    head, *rest = path
    if head == EXTRA:
        return len(rest) == 1
    known = schema.get("properties", {}).get(head)
    return known is not None and (not rest or _is_canonical(known, tuple(rest)))


def _required(schema: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The paths of the required fields, inner ones included."""
    found: list[tuple[str, ...]] = []
    for name in schema.get("required", ()):
        inner = _required(schema["properties"][name])
        found += [(name, *path) for path in inner] or [(name,)]
    return found
