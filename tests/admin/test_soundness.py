"""What no call could go by is refused where staff write it: the snapshot would leave the row out,
and nobody but the log would say so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from api.configuration import document
from providers import snapshot
from providers.models import Model, Provider, Route, Target
from tests import factories
from tests.admin.test_takeover import shown, where

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"adapter": "opneai"}, "Must be one of openai, "),
        ({"adapter": "manifest"}, "Begin one under Definitions"),
        ({"base_url": ""}, "Must be an address such as"),
        ({"base_url": "api.example.com"}, "Must be an address such as"),
        ({"base_url": "https://api.example.com/v1?key=1"}, "Must be an address such as"),
        ({"base_url": "http://127.0.0.1:9"}, "127.0.0.1 is a private or loopback address"),
        ({"category": "A I"}, "Must be 2 to 32 lower-case letters."),
        ({"settings": [1]}, "Must be an object"),
        ({"timeouts": []}, "Must be object."),
        ({"timeouts": {"total_ms": "5s"}}, "total_ms: Must be integer."),
        ({"timeouts": {"total_ms": 0}}, "total_ms: Must be at least 1."),
        ({"timeouts": {"toal_ms": 5}}, "toal_ms: Unknown."),
    ],
    ids=str,
)
def test_a_provider_that_could_not_be_called(fields: dict[str, Any], told: str) -> None:
    row = factories.ProviderFactory.build(**fields)
    with pytest.raises(ValidationError) as caught:
        row.clean()
    ((name, (text,)),) = caught.value.message_dict.items()
    assert name in fields and told in text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"operation": "chat.completion"}, "There is no operation chat.completion."),
        ({"alias": ""}, "A route of chat.completions needs an alias."),
        ({"operation": "finance.quote"}, "Only routes of models have an alias."),
        ({"timeouts": {"total_ms": "5s"}}, "total_ms: Must be integer."),
    ],
    ids=str,
)
def test_a_route_that_nobody_could_call(fields: dict[str, Any], told: str) -> None:
    said = {"alias": "fast", "operation": "chat.completions", **fields}
    with pytest.raises(ValidationError) as caught:
        Route(**said).clean()
    assert told in str(caught.value)


def test_all_that_is_wrong_is_told_on_the_page(browser: Client) -> None:
    row = factories.ProviderFactory(slug="lab")
    wrong = {"adapter": "opneai", "base_url": "nowhere", "timeouts": '{"total_ms": "5s"}'}
    answer = browser.post(where(row), shown(browser, row) | wrong)
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors.keys() == wrong.keys()
    assert snapshot.load().providers.keys() == {"lab"}


def test_a_private_upstream_is_allowed_on_purpose() -> None:
    factories.ProviderFactory.build(base_url="http://[::1]:9", allow_private_network=True).clean()


def _sent(route: Route, provider: Provider, model: Model | None) -> dict[str, Any]:
    target = {"route": route.pk, "provider": provider.pk, "position": 0, "weight": 1}
    return target | ({"model": model.pk} if model else {})


def test_a_target_that_cannot_serve_its_route(browser: Client) -> None:
    lab = factories.ProviderFactory(slug="lab")
    words, vectors = (
        factories.ModelFactory(provider=lab, operation=name)
        for name in ("chat.completions", "embeddings")
    )
    chats = factories.RouteFactory(alias="fast", operation="chat.completions")
    quotes = factories.RouteFactory(alias="", operation="finance.quote")
    add = reverse("admin:providers_target_add")
    for route, model, told in (
        (chats, None, "Say which of lab"),
        (chats, vectors, "for chat.completions. Add it to"),
        (quotes, words, "operation&#x27;s target has no model."),
        (quotes, None, "lab does not serve finance.quote."),
    ):
        answer = browser.post(add, _sent(route, lab, model))
        assert answer.status_code == 200 and told in answer.content.decode()
    assert not Target.objects.exists()
    assert browser.post(add, _sent(chats, lab, words)).status_code == 302


def test_the_same_on_the_routes_page(browser: Client) -> None:
    target = factories.TargetFactory(route__operation="chat.completions")
    vectors = factories.ModelFactory(provider=target.provider, operation="embeddings")
    form = shown(browser, target.route) | {"targets-0-model": str(vectors.pk)}
    answer = browser.post(where(target.route), form)
    assert (
        answer.status_code == 200 and "for chat.completions. Add it to" in answer.content.decode()
    )


def test_what_the_admin_allows_may_be_exported_and_applied(browser: Client) -> None:
    """A time-out of an hour was fine in the form, and no file with it could be read."""
    row = factories.ProviderFactory(slug="lab")
    form = shown(browser, row) | {"timeouts": json.dumps({"total_ms": 3_600_000})}
    assert browser.post(where(row), form).status_code == 302
    document.read("providers: [{slug: lab, timeouts: {total_ms: 3600000}}]", {})
