"""A route's targets in the admin: vectors of two models never stand behind one name."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from providers.models import Model, Route, Target
from tests.admin.test_takeover import shown, where
from tests.factories import ModelFactory, ProviderFactory, RouteFactory, TargetFactory

pytestmark = pytest.mark.django_db
CLASH = "vectors of two cannot be compared"


def model(model_id: str, operation: str = "embeddings") -> Model:
    provider = ProviderFactory(slug=f"lab{Model.objects.count()}")
    made: Model = ModelFactory(provider=provider, model_id=model_id, operation=operation)
    return made


@pytest.fixture
def route() -> Route:
    made: Route = RouteFactory(operation="embeddings", alias="vectors")
    TargetFactory(route=made, model=model("openai/small"))
    return made


def adding(browser: Client, route: Route, second: Model, **more: str) -> Any:
    form = shown(browser, route) | {
        "targets-TOTAL_FORMS": "2",
        "targets-1-route": str(route.pk),
        "targets-1-provider": str(second.provider_id),
        "targets-1-model": str(second.pk),
        "targets-1-position": "1",
        "targets-1-weight": "1",
        "targets-1-enabled": "on",
    }
    return browser.post(where(route), form | more)


def targets(route: Route) -> list[str]:
    return [str(target.model.model_id) for target in route.targets.all() if target.model]


def test_a_routes_page_refuses_vectors_of_two_models(browser: Client, route: Route) -> None:
    answer = adding(browser, route, model("large"))
    assert answer.status_code == 200 and CLASH in answer.content.decode()
    assert targets(route) == ["openai/small"]


def test_the_same_model_at_two_providers_is_taken(browser: Client, route: Route) -> None:
    assert adding(browser, route, model("Small")).status_code == 302
    assert targets(route) == ["openai/small", "Small"]


def test_one_model_may_take_the_others_place(browser: Client, route: Route) -> None:
    gone = {"targets-0-DELETE": "on"}
    assert adding(browser, route, model("large"), **gone).status_code == 302
    assert targets(route) == ["large"]


def test_other_operations_mix_models(browser: Client) -> None:
    chat = RouteFactory(alias="fast")
    TargetFactory(route=chat, model=model("one", "chat.completions"))
    assert adding(browser, chat, model("two", "chat.completions")).status_code == 302
    assert targets(chat) == ["one", "two"]


@pytest.mark.parametrize(("model_id", "status"), [("large", 200), ("lab/small", 302)])
def test_a_targets_own_page_refuses_it_too(
    browser: Client, route: Route, model_id: str, status: int
) -> None:
    second = model(model_id)
    form = {"provider": second.provider_id, "model": second.pk, "position": 1, "weight": 1}
    answer = browser.post(reverse("admin:providers_target_add"), form | {"route": route.pk})
    assert answer.status_code == status
    assert (CLASH in answer.content.decode()) == (status == 200)
    assert len(targets(route)) == (1 if status == 200 else 2)


def test_a_target_may_change_its_model_while_it_is_alone(browser: Client, route: Route) -> None:
    target, other = Target.objects.get(), model("large")
    form = shown(browser, target) | {"provider": str(other.provider_id), "model": str(other.pk)}
    assert browser.post(where(target), form).status_code == 302
    assert targets(route) == ["large"]
    TargetFactory(route=route, model=model("large"), position=1)
    third = model("huge")
    form |= {"provider": str(third.provider_id), "model": str(third.pk)}
    assert CLASH in browser.post(where(target), form).content.decode()
