"""The OpenAPI document: DRF's resources, and the data path from the same operations that
validate its calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from api.schema_parts import (
    BATCH,
    ERRORS,
    HEADERS,
    IDEMPOTENCY_KEY,
    META,
    MODEL,
    OPENAI_ERROR,
    PAGE,
    PART,
    PROBLEM,
    REPLAYED,
    ref,
)
from providers.operations import Kind, Operation, registry
from providers.operations.batch import BATCH_SCHEMA, MAX_ITEMS
from providers.surfaces import FORMS, Form

MEDIA = "application/json"
FORM = "multipart/form-data"
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]


class Described(AutoSchema):
    """drf-spectacular's description of a view. The management API's operations have ids of
    their own, since it has resources of the same names as version 1."""

    def get_operation_id(self) -> str:
        name: str = super().get_operation_id()
        return f"internal_{name}" if self.path.startswith("/internal/") else name

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        """A view's docstring is its summary, where it says none."""
        operation = super().get_operation(*args, **kwargs)
        if operation and "summary" not in operation:
            operation["summary"] = operation.pop("description", "").rstrip(".")
        return operation


class InternalGenerator(SchemaGenerator):
    """For the management API, which has no data path."""


@cache
def public_document() -> dict[str, Any]:
    """The document of version 1. Aliases and the management API are not in it."""
    from api.v1 import urls

    patterns = [path("api/v1/", include((urls.urlpatterns, "v1")))]
    return _document(SchemaGenerator(patterns=patterns))  # type: ignore[no-untyped-call]


@cache
def internal_document() -> dict[str, Any]:
    """The document of the management API."""
    from api.internal import urls

    patterns = [path("internal/v1/", include((urls.urlpatterns, "internal")))]
    document = _document(InternalGenerator(patterns=patterns))  # type: ignore[no-untyped-call]
    document["info"] = {**document["info"], "title": "Patchbay, management"}
    return document


def without_aliases(endpoints: list[Any], **_: Any) -> list[Any]:
    """drf-spectacular's hook: the unversioned paths are version 1 once more, and undescribed."""
    return [(where, *rest) for where, *rest in endpoints if not _is_alias(where)]


def _is_alias(where: str) -> bool:
    return where.startswith("/api/") and not where.startswith("/api/v1/")


def add_data_path(
    result: dict[str, Any],
    generator: Any,
    request: Any,  # noqa: ARG001 - the hook's signature
    public: bool,  # noqa: ARG001
) -> dict[str, Any]:
    """drf-spectacular's hook: the data path's operations, and problems on every operation."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {"Problem": PROBLEM, "OpenAIError": OPENAI_ERROR}
    if not isinstance(generator, InternalGenerator):
        schemas |= {"Meta": META, "Page": PAGE, "Part": PART, "Model": MODEL}
        schemas |= {"Batch": BATCH, "BatchRequest": BATCH_SCHEMA}
        result["paths"] = _data_path(schemas) | result["paths"]
    for item in result["paths"].values():
        for operation in item.values():
            for status, answer in ERRORS.items():
                operation["responses"].setdefault(status, answer)
    result["components"]["securitySchemes"] = _security_schemes(result)
    return result


def _data_path(schemas: dict[str, Any]) -> dict[str, Any]:
    """Its paths; their schemas join the document's."""
    paths: dict[str, Any] = {}
    for operation in sorted(registry().values(), key=lambda each: list(Kind).index(each.kind)):
        _add_operation(paths, schemas, operation)
    for form in FORMS.values():
        _add_form(paths, schemas, form)
    _add_models(paths)
    paths["/api/v1/batch"] = {"post": _batch()}
    return paths


def _document(generator: Any) -> dict[str, Any]:
    document: dict[str, Any] = generator.get_schema(request=None, public=True)
    return document


def _security_schemes(result: Mapping[str, Any]) -> dict[str, Any]:
    from api.authentication import PatchbayScheme

    bearer, api_key = PatchbayScheme.definitions()
    return {**result["components"].get("securitySchemes", {}), "bearer": bearer, "apiKey": api_key}


def _add_operation(paths: dict[str, Any], schemas: dict[str, Any], operation: Operation) -> None:
    name = _camel(operation.name)
    schemas[name] = _hoisted(operation.response_schema, schemas)
    described: dict[str, Any] = {
        "operationId": operation.name.replace(".", "_"),
        "tags": [operation.category],
        "summary": operation.summary,
        "security": SECURITY,
        "responses": {"200": _success(operation, name)},
    }
    if operation.kind is Kind.DATA:
        described["parameters"] = _query_parameters(operation)
    else:
        described["parameters"] = [IDEMPOTENCY_KEY]
        schemas[f"{name}Request"] = _hoisted(operation.request_schema, schemas)
        media = FORM if operation.kind is Kind.TRANSCRIPTION else MEDIA
        body = {media: {"schema": ref(f"{name}Request")}}
        described["requestBody"] = {"required": True, "content": body}
        described["responses"] |= _in_openai_words()
    paths[operation.path] = {operation.method.lower(): described}


def _add_form(paths: dict[str, Any], schemas: dict[str, Any], form: Form) -> None:
    """Chat in another dialect."""
    name = _camel(form.name)
    schemas[name] = _hoisted(form.response_schema, schemas)
    schemas[f"{name}Request"] = _hoisted(form.request_schema, schemas)
    content: dict[str, Any] = {MEDIA: {"schema": ref(name)}}
    if not form.counts:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    success = {"description": form.summary, "headers": HEADERS | REPLAYED, "content": content}
    described: dict[str, Any] = {
        "operationId": form.name.replace(".", "_"),
        "tags": ["ai"],
        "summary": form.summary,
        "security": SECURITY,
        "parameters": [] if form.counts else [IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {MEDIA: {"schema": ref(f"{name}Request")}},
        },
        "responses": {"200": success, **_in_openai_words()},
    }
    if form.problem_schema is not None:
        schemas["MessageError"] = form.problem_schema
        described["responses"] |= _in_words_of("MessageError", "Anthropic")
    paths[form.path] = {"post": described}


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.replace("_", ".").split("."))


def _success(operation: Operation, name: str) -> dict[str, Any]:
    schema = ref(name)
    content: dict[str, Any] = {MEDIA: {"schema": schema}}
    if operation.kind is Kind.DATA:
        content = {MEDIA: {"schema": _enveloped(operation, schema)}}
    elif operation.kind is Kind.CHAT:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    elif operation.kind is Kind.TRANSCRIPTION:
        content["text/plain"] = {"schema": {"type": "string"}}
    elif operation.kind is Kind.SPEECH:
        content = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}
    headers = HEADERS if operation.kind is Kind.DATA else HEADERS | REPLAYED
    return {"description": operation.summary, "headers": headers, "content": content}


def _enveloped(operation: Operation, item: dict[str, Any]) -> dict[str, Any]:
    own = {"type": "array", "items": item} if operation.is_list else item
    data = {"anyOf": [own, {"type": "array", "items": ref("Part")}]}
    properties = {"data": data, "meta": ref("Meta")}
    if operation.is_list:
        properties["page"] = ref("Page")
    return {"type": "object", "required": ["data", "meta"], "properties": properties}


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    required = operation.request_schema.get("required", ())
    parameters = []
    for name, schema in operation.request_schema["properties"].items():
        kept = {key: value for key, value in schema.items() if key != "description"}
        parameter = {"name": name, "in": "query", "required": name in required, "schema": kept}
        if "description" in schema:
            parameter["description"] = schema["description"]
        parameters.append(parameter)
    return parameters


def _add_models(paths: dict[str, Any]) -> None:
    listed = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": ref("Model")},
        },
    }
    paths["/api/v1/models"] = {
        "get": _models("models_list", "List the models you may call", listed)
    }
    one = _models("models_retrieve", "Show a model", ref("Model"))
    one["parameters"] = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    paths["/api/v1/models/{id}"] = {"get": one}


def _batch() -> dict[str, Any]:
    summary = f"Ask up to {MAX_ITEMS} data operations at once, each answered on its own"
    headers = {"X-Request-Id": HEADERS["X-Request-Id"], **REPLAYED}
    content = {MEDIA: {"schema": ref("Batch")}}
    return {
        "operationId": "batch",
        "tags": ["batch"],
        "summary": summary,
        "security": SECURITY,
        "parameters": [IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {MEDIA: {"schema": ref("BatchRequest")}}},
        "responses": {
            "200": {"description": summary, "headers": headers, "content": content},
        },
    }


def _models(operation_id: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": summary, "headers": HEADERS, "content": {MEDIA: {"schema": schema}}}
    return {
        "operationId": operation_id,
        "tags": ["ai"],
        "summary": summary,
        "security": SECURITY,
        "responses": {"200": answer, **_in_openai_words()},
    }


def _in_openai_words() -> dict[str, Any]:
    return _in_words_of("OpenAIError", "OpenAI")


def _in_words_of(schema: str, whose: str) -> dict[str, Any]:
    content = {MEDIA: {"schema": ref(schema)}}
    return {
        status: {"description": f"The same codes in {whose}'s envelope.", "content": content}
        for status in ERRORS
    }


def _hoisted(schema: Mapping[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$defs` moved to the document's components: a `$ref` of OpenAPI
    starts at the document's root and not at the schema's."""
    plain = {key: value for key, value in schema.items() if key != "$defs"}
    for name, definition in schema.get("$defs", {}).items():
        schemas[_component(name)] = _rebased(definition)
    rebased: dict[str, Any] = _rebased(plain)
    return rebased


def _rebased(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {
            key: _at_root(value) if key == "$ref" else _rebased(value)
            for key, value in node.items()
        }
    return [_rebased(item) for item in node] if isinstance(node, list) else node


def _at_root(reference: Any) -> Any:
    name = str(reference).removeprefix("#/$defs/")
    return f"#/components/schemas/{_component(name)}"


def _component(name: str) -> str:
    return "Data" + "".join(part.capitalize() for part in name.split("_"))
