"""Definitions in the admin: seen, edited as a copy, tried, put in force; whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from providers import definitions
from providers.definition_models import Check, Definition, Drift
from providers.models import Provider
from tests.factories import ProviderFactory, UserFactory
from tests.providers.definitions import GOOD, rates, replying

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>"
LIST, ALL = "/admin/definitions/my-rates/", "/admin/definitions/"
NEW, FIRST = f"{LIST}new/", f"{LIST}1/"


def form(**changes: str) -> dict[str, str]:
    document, examples = rates(**changes)
    return {"document": document, "examples": json.dumps(examples), "note": "a note"}


def made(browser: Client, **changes: str) -> Definition:
    answer = browser.post(NEW, form(**changes) | {"save": "1"})
    assert answer.status_code == 302, answer.content
    return Definition.objects.filter(slug="my-rates").latest("version")


def page(browser: Client, where: str, **form: str) -> str:
    answer = browser.post(where, form, follow=True) if form else browser.get(where, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_new_provider_from_a_slug_to_a_route(browser: Client) -> None:
    assert "A new provider" in page(browser, ALL)
    assert browser.get(ALL, {"slug": "my-rates"}).headers["Location"] == NEW
    assert "slug: my-rates" in page(browser, NEW)
    row = made(browser)
    assert (row.by, row.note, row.state) == ("root@example.test", "a note", "draft")
    assert "Nothing is wrong" in page(browser, FIRST)
    assert "is in force within a second" in page(browser, FIRST, activate="1")
    assert Provider.objects.get(slug="my-rates").source == "operator"
    assert "my-rates" in page(browser, ALL)


def test_the_editor_says_what_is_wrong_by_line_and_keeps_nothing(browser: Client) -> None:
    said = form(path="'rates['")
    line = said["document"][: said["document"].index("'rates['")].count("\n") + 1
    shown = page(browser, NEW, **said, check="1")
    assert f"my-rates.yaml, line {line}: operations.finance.fx_rate.map.rate.path" in shown
    assert not Definition.objects.exists()
    assert "No JSON: line 1" in page(browser, NEW, **said | {"examples": "[{"}, check="1")
    assert "Nothing is wrong" in page(browser, NEW, **form(), check="1")


def test_what_does_not_hold_is_kept_and_not_activated(browser: Client) -> None:
    made(browser, path="wrong")
    shown = page(browser, FIRST, activate="1")
    assert "Comes to something else" in shown
    assert not Provider.objects.exists()


def test_what_a_new_provider_serves_says_what_it_begins_with(browser: Client) -> None:
    models = browser.get(ALL, {"slug": "my-rates", "template": "ai"}).headers["Location"]
    assert models == f"{NEW}?template=ai"
    assert "adapter: openai" in page(browser, models)
    assert "adapter: manifest" in page(browser, f"{NEW}?template=none")


def test_a_definition_is_found_by_a_part_of_its_slug(browser: Client) -> None:
    made(browser)
    page(browser, FIRST, activate="1")
    assert FIRST.rsplit("/", 2)[0] in page(browser, f"{ALL}?q=RAT")
    assert FIRST.rsplit("/", 2)[0] not in page(browser, f"{ALL}?q=nothing")


def test_a_copy_differs_is_activated_and_rolled_back(browser: Client) -> None:
    made(browser)
    page(browser, FIRST, activate="1")
    assert "name: my-rates" in page(browser, f"{NEW}?from=1")
    made(browser, name="Ours")
    shown = page(browser, f"{LIST}2/")
    assert "+name: Ours" in shown and "Activate" in shown
    page(browser, f"{LIST}2/", activate="1")
    assert Provider.objects.get().name == "Ours"
    assert "Roll back to version 1" in page(browser, LIST)
    page(browser, LIST, roll_back="1")
    assert Provider.objects.get().name == "my-rates"


def test_a_newer_shipped_version_is_told(browser: Client) -> None:
    made(browser)
    page(browser, FIRST, activate="1")
    document, examples = rates()
    definitions.create(
        slug="my-rates", document=document, examples=examples, by="x", source="builtin"
    )
    assert "A newer shipped version is there" in page(browser, LIST)


def test_trying_shows_request_answer_and_what_it_comes_to(browser: Client) -> None:
    made(browser)
    asked = {"operation": "finance.fx_rate", "against": "example", "try": "1"}
    shown = page(browser, FIRST, **asked)
    assert "GET https://api.example.com/v1/latest?base=EUR&amp;symbols=USD" in shown
    assert "1.0823" in shown and "&quot;verdict&quot;: &quot;ok&quot;" in shown
    for params in ("[]", "{", "7"):
        assert "errorlist" in page(browser, FIRST, **asked, params=params)
    told = page(browser, FIRST, **asked | {"against": "sandbox"}, params='{"base": 7}')
    assert "This is required" in told or "quote" in told


def test_an_example_is_chosen_of_those_that_there_are(browser: Client) -> None:
    made(browser)
    asked = {"operation": "finance.fx_rate", "against": "example", "try": "1"}
    assert "&quot;verdict&quot;: &quot;not_found&quot;" in page(
        browser, FIRST, **asked, example="not-found"
    )
    assert "Select a valid choice" in page(browser, FIRST, **asked, example="none")


def test_what_is_in_force_leads_to_its_provider_and_routes(browser: Client) -> None:
    made(browser)
    page(browser, FIRST, activate="1")
    shown = page(browser, LIST)
    provider = Provider.objects.get()
    assert reverse("admin:providers_provider_change", args=[provider.pk]) in shown
    for target in provider.targets.all():
        assert reverse("admin:providers_route_change", args=[target.route_id]) in shown
    provider.targets.all().delete()
    assert "No route leads there yet" in page(browser, LIST)


def test_verify_now(browser: Client) -> None:
    with replying() as upstream:
        upstream.body = GOOD
        ProviderFactory(
            slug="my-rates", adapter="manifest", base_url=upstream.url, allow_private_network=True
        )
        made(browser, base_url=upstream.url)
        page(browser, FIRST, activate="1")
        assert "ok, after" in page(browser, LIST, verify="1")
    assert Check.objects.get().by == "root@example.test"


def test_whatever_they_hold_is_text(browser: Client) -> None:
    document, examples = rates(name=f'"{EVIL}"')
    examples[0]["response"]["body"]["base"] = EVIL
    examples[1]["expect"]["message"] = EVIL
    for state in ("retired", "active"):
        row = definitions.create(
            slug="my-rates", document=document, examples=examples, by=EVIL, note=EVIL
        )
        Definition.objects.filter(pk=row.pk).update(state=state)
    definitions.create(slug="my-rates", document=EVIL, examples=[], by=EVIL)
    Check.objects.create(slug="my-rates", kind="trial", verdict="ok", latency_ms=1, message=EVIL)
    Drift.objects.create(slug="my-rates", operation=EVIL, message=EVIL)
    shown = [page(browser, where) for where in (ALL, LIST, FIRST, f"{LIST}3/", f"{NEW}?from=2")]
    asked = {"operation": "finance.fx_rate", "against": "example", "try": "1"}
    shown.append(page(browser, FIRST, **asked))
    shown.append(page(browser, NEW, document=EVIL, examples=EVIL, note=EVIL, check="1"))
    assert not any(EVIL in each for each in shown)
    assert sum("&lt;script&gt;" in each for each in shown) >= 5


@pytest.mark.parametrize("slug", [EVIL, "../x", "a b"])
def test_a_slug_that_is_none_leads_nowhere(browser: Client, slug: str) -> None:
    assert "A slug has" in browser.get(ALL, {"slug": slug}, follow=True).content.decode()


def test_what_is_not_there(browser: Client) -> None:
    for where in (LIST, FIRST, f"{LIST}99999999999999999999/"):
        assert browser.get(where).status_code == 404


def allowed(*names: str) -> Client:
    user: Any = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def test_each_needs_its_permission(browser: Client) -> None:
    made(browser)
    nobody, viewer = allowed(), allowed("view_definition")
    for where in (ALL, LIST, FIRST, NEW):
        assert nobody.get(where).status_code == 403, where
    assert viewer.get(NEW).status_code == 403
    shown = page(viewer, FIRST)
    assert "Activate" not in shown and "Try it" not in shown
    for where, form in ((FIRST, "activate"), (FIRST, "try"), (LIST, "roll_back"), (LIST, "verify")):
        assert viewer.post(where, {form: "1"}).status_code == 403, form
    assert Client().get(LIST).status_code == 302
    assert "Activate" in page(allowed("view_definition", "change_definition"), FIRST)


def test_providers_lead_there_and_are_not_edited_in_place(browser: Client) -> None:
    provider = ProviderFactory(slug="my-rates", manifest={"a": 1})
    made(browser)
    change = reverse("admin:providers_provider_change", args=[provider.pk])
    assert 'name="manifest"' not in page(browser, change)
    assert (
        browser.get(reverse("admin:providers_provider_definitions", args=[provider.pk])).headers[
            "Location"
        ]
        == LIST
    )
    assert (
        browser.get(reverse("admin:providers_provider_all_definitions")).headers["Location"] == ALL
    )
