"""What staff change in the admin is theirs: the next load_catalogue passes it over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from api.configuration import catalogue
from providers.catalogue import CatalogueFile
from providers.models import Model, Provider, Route, Target

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shipped")]
BUILTIN, OPERATOR = Provider.Source.BUILTIN, Provider.Source.OPERATOR
SHIPPED = frozenset(
    {
        "abstract-ip",
        "alpha-vantage",
        "finnhub",
        "groq",
        "met-no",
        "nominatim",
        "open-meteo",
        "openai",
        "photon",
    }
)


def newer(files: Sequence[CatalogueFile]) -> list[CatalogueFile]:
    """A later version of Patchbay, in which every file was touched and the first is gone."""
    return [
        CatalogueFile(
            file.path,
            {**file.document, "name": "New name"},
            f"{file.checksum[:-1]}~",
            file.manifest,
        )
        for file in files
    ]


def where(row: Any) -> str:
    return reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])


def shown(browser: Client, row: Any) -> dict[str, Any]:
    """The change page's form as a browser would send it back."""
    return sent_back(browser.get(where(row)).context)


def sent_back(page: Any) -> dict[str, Any]:
    forms = [page["adminform"].form]
    for inline in page["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.initial_forms]
    sent = {}
    for field in (field for form in forms for field in form):
        value = field.value()
        if value is not None and value is not False and value != "":
            is_json = isinstance(value, dict | list)
            text = json.dumps(value) if is_json else str(value)
            sent[field.html_name] = "on" if value is True else text
        if field.field.show_hidden_initial:
            sent[field.html_initial_name] = str(value)
    return sent


def send(browser: Client, row: Any, **changes: Any) -> None:
    """Posts the page with changes; None takes a field away, as an empty check box does."""
    form = shown(browser, row) | changes
    answer = browser.post(where(row), {k: v for k, v in form.items() if v is not None})
    assert answer.status_code == 302, answer.context["errors"]
    row.refresh_from_db()


def test_a_provider_saved_as_it_was_or_switched_stays_the_catalogues(browser: Client) -> None:
    for provider in Provider.objects.filter(slug__in=["openai", "open-meteo", "met-no"]):
        send(browser, provider)
        send(browser, provider, enabled=None if provider.enabled else "on")
        assert provider.source == BUILTIN


def test_a_changed_provider_is_staffs(browser: Client, shipped: Sequence[CatalogueFile]) -> None:
    provider = Provider.objects.get(slug="openai")
    send(browser, provider, base_url="https://mirror.example.test/v1")
    assert provider.source == OPERATOR
    catalogue.load(newer(shipped))
    provider.refresh_from_db()
    assert provider.base_url == "https://mirror.example.test/v1"
    assert provider.name != "New name"
    assert Provider.objects.get(slug="groq").name == "New name"


def test_a_changed_model_is_staffs(browser: Client, shipped: Sequence[CatalogueFile]) -> None:
    model, other = Model.objects.filter(provider__slug="openai")[:2]
    send(browser, other)
    assert other.source == BUILTIN
    send(browser, model, max_output="99")
    assert (model.source, model.provider.source) == (OPERATOR, BUILTIN)
    Model.objects.filter(pk=other.pk).update(context=1)
    catalogue.load(newer(shipped))
    model.refresh_from_db()
    other.refresh_from_db()
    assert model.max_output == 99
    assert other.context != 1


def quote() -> Route:
    return Route.objects.get(operation="finance.quote", alias="")


def targets(route: Route) -> list[int]:
    return list(route.targets.values_list("pk", flat=True))


def test_a_route_saved_as_it_was_stays_the_catalogues(browser: Client) -> None:
    route = quote()
    send(browser, route)
    assert route.source == BUILTIN


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "weighted"},
        {"enabled": None},
        {"targets-0-weight": "7"},
        {"targets-0-enabled": None},
        {"targets-0-DELETE": "on"},
    ],
    ids=str,
)
@pytest.mark.unmeasured
def test_a_changed_route_is_staffs(
    changes: dict[str, Any], browser: Client, shipped: Sequence[CatalogueFile]
) -> None:
    route = quote()
    send(browser, route, **changes)
    assert route.source == OPERATOR
    before = targets(route)
    catalogue.load(newer(shipped)[1:])
    assert targets(route) == before


def test_a_target_changed_on_its_own_page_makes_the_route_staffs(browser: Client) -> None:
    target = quote().targets.all()[0]
    send(browser, target)
    assert quote().source == BUILTIN
    elsewhere = Route.objects.get(operation="geo.geocode", alias="")
    send(browser, target, weight="3", route=str(elsewhere.pk))
    assert target.route.operation == "finance.quote"
    assert (quote().source, target.weight) == (OPERATOR, 3)
    elsewhere.refresh_from_db()
    assert elsewhere.source == BUILTIN


def test_a_target_taken_away_stays_away(browser: Client, shipped: Sequence[CatalogueFile]) -> None:
    one, two = Route.objects.get(operation="geo.geocode").targets.all()[:2]
    url = reverse("admin:providers_target_delete", args=[one.pk])
    browser.post(url, {"post": "yes"})
    listing = {"action": "delete_selected", "_selected_action": [two.pk], "post": "yes"}
    browser.post(reverse("admin:providers_target_changelist"), listing)
    catalogue.load(newer(shipped))
    assert not Target.objects.filter(route__operation="geo.geocode").filter(
        provider_id__in=[one.provider_id, two.provider_id]
    )
    assert Route.objects.get(operation="geo.geocode").source == OPERATOR


def test_a_target_added_on_its_own_page_makes_the_route_staffs(browser: Client) -> None:
    route = quote()
    form = {"route": route.pk, "provider": Provider.objects.get(slug="finnhub").pk}
    form |= {"position": "0", "weight": "1", "enabled": "on"}
    answer = browser.post(reverse("admin:providers_target_add"), form)
    assert answer.status_code == 302
    assert quote().source == OPERATOR
