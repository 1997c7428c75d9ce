"""The OpenAPI documents: valid, complete, and readable offline."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient

from api import schema
from api.error_catalogue import EXPLAINED
from lib.problems import TITLES
from providers.operations import registry
from providers.surfaces import FORMS
from tests.factories import UserFactory

# Paths that no document lists: the documents themselves, and what is no JSON API.
UNLISTED = {"/api/v1/schema", "/api/v1/metrics", "/internal/schema", "/internal/docs"}


def resolved(patterns: Any = None, prefix: str = "/") -> list[str]:
    found = []
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        text = prefix + str(pattern.pattern).removeprefix("^").removesuffix("\\Z").removesuffix("$")
        if isinstance(pattern, URLResolver):
            found += resolved(pattern.url_patterns, text)
        elif isinstance(pattern, URLPattern):
            found.append(re.sub(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>", r"{\1\2}", text))
    return found


@pytest.mark.unmeasured
@pytest.mark.parametrize("document", [schema.public_document, schema.internal_document])
def test_valid(document: Any) -> None:
    validate_schema(document())
    text = json.dumps(document())
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert references <= document()["components"]["schemas"].keys()
    assert "$defs" not in text


def test_every_url_is_documented_or_listed_as_not() -> None:
    documented = {
        path.replace("{id}", "{pk}") if "/routes/" in path else path
        for document in (schema.public_document(), schema.internal_document())
        for path in document["paths"]
    }
    served = {path for path in resolved() if path.startswith(("/api/", "/internal/"))}
    aliases = {path for path in served if path.startswith("/api/") and "/v1/" not in path}
    assert served - aliases - UNLISTED <= documented
    assert {path.replace("/api/", "/api/v1/") for path in aliases} <= served


def test_every_operation_of_the_data_path_is_documented() -> None:
    paths = schema.public_document()["paths"]
    for operation in registry().values():
        described = paths[operation.path][operation.method.lower()]
        assert described["security"]
        assert {"200", "4XX", "5XX"} <= described["responses"].keys()
    quote = {p["name"]: p for p in paths["/api/v1/finance/quote"]["get"]["parameters"]}
    assert quote["symbol"]["required"]
    assert (
        "text/event-stream"
        in (paths["/api/v1/chat/completions"]["post"]["responses"]["200"]["content"])
    )
    assert {"/api/v1/models", "/api/v1/models/{id}"} <= paths.keys()


def test_every_dialect_of_clients_is_documented_with_its_own_errors() -> None:
    document = schema.public_document()
    for form in FORMS.values():
        described = document["paths"][form.path]["post"]
        assert described["security"]
        streams = "text/event-stream" in described["responses"]["200"]["content"]
        assert streams is not form.counts
    (reference,) = document["paths"]["/api/v1/messages"]["post"]["responses"]["4XX"][
        "content"
    ].values()
    assert reference == {"schema": {"$ref": "#/components/schemas/MessageError"}}


def test_every_post_of_the_data_path_takes_a_key_and_says_what_it_repeats() -> None:
    paths = schema.public_document()["paths"]
    posts = {each.path for each in registry().values() if each.method == "POST"}
    assert posts >= {"/api/v1/chat/completions", "/api/v1/embeddings"}
    posts |= {form.path for form in FORMS.values() if not form.counts}
    for path in posts | {"/api/v1/batch"}:
        told = paths[path]["post"]
        assert "Idempotency-Key" in {each["name"] for each in told["parameters"]}, path
        assert "Idempotency-Replayed" in told["responses"]["200"]["headers"], path
    for path, item in paths.items():
        names = {each["name"] for each in item.get("get", {}).get("parameters", ())}
        assert "Idempotency-Key" not in names, path


def test_every_operation_has_its_own_id_and_problems() -> None:
    ids = []
    for item in schema.public_document()["paths"].values():
        for operation in item.values():
            ids.append(operation["operationId"])
            assert {"4XX", "5XX"} <= operation["responses"].keys()
    assert len(ids) == len(set(ids))


def test_the_description_of_all_urls_is_clean() -> None:
    """What `manage.py check --deploy` asks: no id and no component means two things."""
    everything = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    assert not GENERATOR_STATS
    assert not [path for path in everything["paths"] if re.match(r"/api/(?!v1/)", path)]
    ids = [op["operationId"] for item in everything["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))
    internal = {
        operation["operationId"]
        for item in schema.internal_document()["paths"].values()
        for operation in item.values()
    }
    assert internal <= set(ids)
    assert all(name.startswith("internal_") for name in internal)


def test_served_as_json_to_everyone(anonymous: APIClient) -> None:
    for where in ("/api/v1/schema", "/api/schema"):
        answer = anonymous.get(where)
        assert answer.status_code == 200
        assert json.loads(answer.content)["openapi"].startswith("3.1")


@pytest.mark.parametrize("where", ["/docs", "/redoc"])
def test_pages_load_nothing_from_elsewhere(anonymous: APIClient, where: str) -> None:
    page = anonymous.get(where)
    assert page.status_code == 200
    text = page.content.decode()
    assert "//" not in re.sub(r"<!doctype html>", "", text)
    assert "/api/v1/schema" in text.replace("\\u002D", "-").replace("\\/", "/")


def test_every_code_is_explained(anonymous: APIClient) -> None:
    assert EXPLAINED.keys() == TITLES.keys()
    page = anonymous.get("/docs/errors").content.decode()
    assert set(re.findall(r'<section id="(\w+)">', page)) == set(TITLES)
    assert "`" not in page
    assert "<code>Authorization: Bearer …</code>" in page


def test_every_operation_has_a_summary() -> None:
    for document in (schema.public_document(), schema.internal_document()):
        for item in document["paths"].values():
            for operation in item.values():
                assert operation["summary"], operation["operationId"]


def test_what_clients_call_most_comes_first() -> None:
    assert next(iter(schema.public_document()["paths"])) == "/api/v1/chat/completions"


@pytest.mark.django_db
def test_the_management_documents_are_for_staff(anonymous: APIClient, as_user: Any) -> None:
    assert anonymous.get("/internal/schema").status_code == 401
    assert as_user(UserFactory()).get("/internal/schema").status_code == 403
    assert anonymous.get("/internal/docs").status_code == 302
    staff = UserFactory(is_staff=True)
    assert as_user(staff).get("/internal/schema").status_code == 200
    anonymous.force_login(staff)
    assert anonymous.get("/internal/schema").status_code == 200
    assert anonymous.get("/internal/docs").status_code == 200


def test_the_management_api_can_be_switched_off(settings: Any) -> None:
    from api import urls

    served = settings.ENV
    try:
        settings.ENV = served.model_copy(update={"INTERNAL_API": False})
        off = resolved(importlib.reload(urls).urlpatterns)
    finally:
        settings.ENV = served
        on = resolved(importlib.reload(urls).urlpatterns)
    assert not [path for path in off if path.startswith("/internal/")]
    assert [path for path in on if path.startswith("/internal/")]
