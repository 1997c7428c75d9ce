"""Compiles a manifest: all that can be wrong with one is found here, and nothing later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from jsonschema_rs import Draft202012Validator

from lib.egress import is_public
from providers import warm_requests
from providers.adapters.manifest.compiling_parts import Parts
from providers.adapters.manifest.decoding import Table
from providers.adapters.manifest.definition import (
    EarlierStep,
    FanOut,
    Fault,
    Manifest,
    ManifestError,
    ManifestOperation,
    Place,
)
from providers.adapters.manifest.mapping import EXTRA, Field
from providers.adapters.manifest.paging import CURSOR, NUMBER, SIZE, Paging
from providers.adapters.manifest.request import Auth, RequestTemplate
from providers.adapters.manifest.stepping import EACH
from providers.call import Grant
from providers.operations import Kind, Operation, registry
from providers.operations.checking import faults

_KEPT_HEADERS: Final = frozenset(
    {"authorization", "cookie", "host", "content-length", "transfer-encoding", "connection"}
)
_TOLD: Final = frozenset({"limit"})
MOST_AT_ONCE: Final = 10


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
            form=self._form(),
        )

    def _form(self) -> frozenset[str] | Table | None:
        decode = self.document.get("decode", "json")
        for name, form in (("lists", "xml"), ("table", "table")):
            if name in self.document and decode != form:
                self.fault((name,), f"Is for `decode: {form}`.")
        if decode == "xml":
            return frozenset(self.document.get("lists", ()))
        return Table(**self.document.get("table", {})) if decode == "table" else None

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

    def _check_warm(
        self, operation: Operation, items: Sequence[Mapping[str, Any]], place: Place
    ) -> None:
        for index, item in enumerate(items):
            try:
                warm_requests.check(operation.name, item["params"], is_house=True)
            except warm_requests.WarmFault as fault:
                field = (fault.field,) if fault.field == "params" else ()
                self.fault((*place, "warm", index, *field, *fault.path), str(fault))

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
        self._check_warm(operation, source.get("warm", ()), place)
        paging = self._paging(source.get("page"), (*place, "page"))
        earlier = [
            self._earlier(step, (*place, "steps", index))
            for index, step in enumerate(source.get("steps", ()))
        ]
        self._check_steps(earlier, place)
        each = self._fan_out(source, place)
        request = self._request(source["request"], (*place, "request"))
        self._check_told(operation, [*(step.request for step in earlier), request], place)
        told = frozenset().union(*(t.params for t in (*(s.request for s in earlier), request)))
        self._check_paging(paging, told, place)
        cache_ttl = source.get("cache", self.document.get("cache", {})).get("ttl")
        records, total = source.get("records"), source.get("total")
        fields = self._fields(operation, source["map"], (*place, "map"))
        return ManifestOperation(
            operation=operation,
            request=request,
            fields=tuple(field for field in fields if not field.is_extra),
            extras=tuple(field for field in fields if field.is_extra),
            rules=self.rules(source.get("errors", []), (*place, "errors"), body_only=True),
            records=self.records(records, (*place, "records")),
            skip_incomplete=source.get("incomplete") == "skip",
            total=None if total is None else self.source(total, (*place, "total")),
            not_found_without=source.get("not_found_without", ""),
            narrow=source.get("narrow", False),
            cache_ttl=cache_ttl,
            units=source.get("units"),
            examples=tuple(source["examples"]),
            earlier=tuple(earlier),
            each=each,
            paging=paging,
        )

    def _paging(self, source: Mapping[str, Any] | None, place: Place) -> Paging | None:
        if source is None:
            return None
        by, following = source["by"], source.get("next")
        if by == CURSOR and following is None:
            self.fault(place, "Needs `next`: where an answer has the next cursor.")
        self.known_params |= {f"page.{by}"} if "size" in source else {f"page.{by}", SIZE}
        return Paging(
            by,
            first=source.get("first", 1 if by == NUMBER else 0),
            size=source.get("size", 0),
            most=source.get("most", 100),
            next=self.records(following, (*place, "next")),
        )

    def _check_paging(self, paging: Paging | None, told: frozenset[str], place: Place) -> None:
        """A page that is not asked for, or of an unknown size, would be told again and again."""
        if paging is None:
            return
        for name in (f"page.{paging.by}", *([] if paging.size else [SIZE])):
            if name not in told:
                hint = " (or say `size`, if it cannot be told)" if name == SIZE else ""
                self.fault((*place, "page"), f"No request tells the provider `{{{name}}}`{hint}.")

    def _earlier(self, source: Mapping[str, Any], place: Place) -> EarlierStep:
        """What it gives is known to all that comes after it."""
        name = source["name"]
        step = EarlierStep(
            name=name,
            request=self._request(source["request"], (*place, "request")),
            gives={
                f"steps.{name}.{value}": self.source(spec, (*place, "give", value))
                for value, spec in source["give"].items()
            },
            rules=self.rules(source.get("errors", []), (*place, "errors")),
        )
        self.known_params |= step.gives.keys()
        return step

    def _check_steps(self, earlier: list[EarlierStep], place: Place) -> None:
        names = [step.name for step in earlier]
        for index, name in enumerate(names):
            if name in names[:index]:
                self.fault((*place, "steps", index, "name"), "An earlier step has this name.")

    def _fan_out(self, source: Mapping[str, Any], place: Place) -> FanOut | None:
        each = source.get("each")
        if each is None:
            return None
        if each["of"] not in self.known_params:
            self.unknown_param(each["of"], (*place, "each", "of"))
        self.known_params |= {EACH}
        return FanOut(each["of"], each.get("most", MOST_AT_ONCE))

    def _check_kind(self, operation: Operation, source: Mapping[str, Any], place: Place) -> None:
        for name in ("total", "incomplete", "page", "each"):
            if name in source and not operation.is_list:
                self.fault((*place, name), "Is only for an operation that answers with a list.")
        if "page" in source and "each" in source:
            self.fault((*place, "page"), "Is not for an operation that fans out.")
        if operation.is_list and "not_found_without" in source:
            self.fault((*place, "not_found_without"), "Is not for an operation with a list.")
        if source.get("not_found_without") not in {None, *source["map"]}:
            self.fault((*place, "not_found_without"), "Is not among the mapped fields.")

    def _request(self, source: Mapping[str, Any], place: Place) -> RequestTemplate:
        if ("path" in source) == ("url" in source):
            self.fault(place, "Needs `path`, or the `url` that an earlier step gave.")
        link = self._link(source.get("url", ""), (*place, "url"))
        template = RequestTemplate(
            method=source.get("method", "POST" if "body" in source else "GET"),
            path=self.template(source.get("path", ""), (*place, "path")),
            query=tuple(
                (name, self.template(text, (*place, "query", name)))
                for name, text in source.get("query", {}).items()
            ),
            prepare={
                name: self.steps(steps, (*place, "prepare", name))
                for name, steps in source.get("prepare", {}).items()
            },
            picks=frozenset(source.get("picks", ())),
            body=self.body(source.get("body"), (*place, "body")),
            only={name: frozenset(values) for name, values in source.get("only", {}).items()},
            link=link,
        )
        named = template.picks.union(template.prepare, template.only)
        for name in sorted(named - self.known_params):
            self.unknown_param(name, place)
        if template.body and template.method == "GET":
            self.fault((*place, "body"), "A GET has none; say `method: POST`.")
        return template

    def _link(self, source: str, place: Place) -> str:
        """The step's value that is the URL."""
        if not source:
            return ""
        hole = self.template(source, place).alone
        if hole is None or hole.default is not None or not hole.param.startswith("steps."):
            self.fault(place, "Must be one value of an earlier step: `{steps.<step>.<value>}`.")
            return ""
        return hole.param

    def _check_told(
        self, operation: Operation, templates: list[RequestTemplate], place: Place
    ) -> None:
        """Every call's parameters reach the provider, and no path lacks what a call may lack."""
        required = set(operation.request_schema.get("required", ()))
        told = frozenset().union(*(template.params for template in templates))
        for name in sorted(required - told):
            self.fault(
                (*place, "request"), f"Does not tell the provider `{name}`, which every call has."
            )
        for template in templates:
            needed = {name for name in template.path.required if "." not in name} - {EACH}
            for name in sorted(needed - required):
                self.fault(
                    (*place, "request", "path"), f"`{name}` may be absent: give it a default."
                )

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
