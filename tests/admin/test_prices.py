"""Price versions in the admin: compared, followed by a next one, and put in force again."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from api.configuration import staff_roles
from billing import book
from billing.models import KINDS, Price
from lib.audit import AuditEntry
from lib.models import Revision, Topic
from tests.admin.test_staff_roles import as_role
from tests.factories import ModelFactory, PriceFactory, ProviderFactory

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"


def page_of(price: Price, name: str = "change") -> str:
    return reverse(f"admin:billing_price_{name}", args=[price.pk])


@pytest.fixture
def versions() -> list[Price]:
    """The oldest first; the last is to come."""
    provider = ProviderFactory(slug="lab")
    PriceFactory(provider=provider, model_id="another", input=9_990_000)
    return [
        PriceFactory(
            provider=provider,
            model_id="gpt-x",
            input=usd * 1_000_000,
            output=7_000_000,
            note=HOSTILE,
            effective_from=timezone.now() + dt.timedelta(days=days),
        )
        for days, usd in ((-3, 1), (-2, 2), (-1, 2), (1, 4))
    ]


def test_versions_are_compared(browser: Client, versions: list[Price]) -> None:
    answer = browser.get(page_of(versions[0]))
    rows = answer.context["versions"]
    assert [row["price"] for row in rows] == versions[::-1]
    changed = [{c["name"]: c["before"] for c in row["cells"] if c["changed"]} for row in rows]
    assert changed == [{"input": "2"}, {}, {"input": "1"}, {}]
    assert answer.context["in_force"] == versions[2].pk
    page = answer.content.decode()
    assert page.count("in force</span>") == 1
    assert HOSTILE not in page and "9.99" not in page


def test_it_costs_the_same_however_many_versions(browser: Client) -> None:
    provider = ProviderFactory()

    def queries(price: Price) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(page_of(price)).status_code == 200
        return len(captured)

    price = PriceFactory(provider=provider, model_id="m")
    queries(price)
    few = queries(price)
    for _ in range(9):
        PriceFactory(provider=provider, model_id="m")
    assert queries(price) == few <= 15


def test_an_earlier_one_is_put_in_force_again(browser: Client, versions: list[Price]) -> None:
    first = versions[0]
    page = browser.get(page_of(first, "as_before")).content.decode()
    assert "word-warning" in page and HOSTILE not in page
    assert Price.objects.count() == 5
    before = Revision.numbers().get(Topic.ROUTING, 0)
    answer = browser.post(page_of(first, "as_before"))
    assert answer.status_code == 302
    newest = Price.objects.latest("pk")
    assert [getattr(newest, kind) for kind in KINDS] == [getattr(first, kind) for kind in KINDS]
    assert newest.source == "operator" and newest.effective_from <= timezone.now()
    assert Revision.numbers()[Topic.ROUTING] > before
    version = book.load().price("lab", "gpt-x", "chat.completions", timezone.now().timestamp())
    assert version.prices.input == 1_000_000
    assert AuditEntry.objects.about(newest).get().action == "created"
    first.refresh_from_db()
    assert first.note == HOSTILE  # the old one stays as it was


def test_a_next_one_begins_with_the_figures_of_the_last(
    browser: Client, versions: list[Price]
) -> None:
    where = browser.get(page_of(versions[2], "next_version")).headers["Location"]
    form = browser.get(where).context["adminform"].form
    assert [form[name].value() for name in ("input", "output", "model_id")] == ["2", "7", "gpt-x"]
    assert str(form["provider"].value()) == str(versions[2].provider_id)
    assert not form["effective_from"].value()
    for wrong in ("999999", "x", "1' --", "²"):
        add = reverse("admin:billing_price_add")
        assert browser.get(add, {"like": wrong}).status_code == 200


@pytest.mark.parametrize("role", staff_roles.ROLES)
def test_who_may(role: str, versions: list[Price]) -> None:
    staff_roles.bring()
    client, allowed = as_role(role), role in {"billing", "admin"}
    assert client.get(page_of(versions[0])).status_code == 200
    for name in ("as_before", "next_version"):
        status = client.get(page_of(versions[0], name)).status_code
        assert (status in (200, 302)) is allowed
    client.post(page_of(versions[0], "as_before"))
    assert Price.objects.count() == (6 if allowed else 5)


@pytest.mark.parametrize(
    "wrong", [{"operation": "no.such"}, {"input": ""}, {"unit": "-1"}, {"input": HOSTILE}]
)
def test_a_price_that_says_nothing_or_nonsense_is_refused(browser: Client, wrong: Any) -> None:
    form = {"provider": ProviderFactory().pk, "model_id": "gpt-x", "input": "3"} | wrong
    page = browser.post(reverse("admin:billing_price_add"), form)
    assert page.status_code == 200 and HOSTILE not in page.content.decode()
    assert not Price.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"operation": "finance.quote"},
        {"operation": "no.such"},
        {"capabilities": '{"tools": true}'},
        {"capabilities": "[1]"},
        {"context": "100", "max_output": "101"},
    ],
)
def test_a_model_that_cannot_be_is_refused(browser: Client, wrong: dict[str, str]) -> None:
    model = ModelFactory(model_id="gpt-x")
    form = {
        "provider": model.provider_id,
        "model_id": "gpt-x",
        "operation": "chat.completions",
        "capabilities": '["tools"]',
        "context": "1000",
        "enabled": "on",
    }
    change = reverse("admin:providers_model_change", args=[model.pk])
    assert browser.post(change, form | wrong).status_code == 200
    model.refresh_from_db()
    assert model.capabilities == []
    assert browser.post(change, form).status_code == 302
    model.refresh_from_db()
    assert model.capabilities == ["tools"]


def test_a_new_model_answers_chats_unless_somebody_says_otherwise(browser: Client) -> None:
    page = browser.get(reverse("admin:providers_model_add")).content.decode()
    assert '<option value="chat.completions" selected>' in page
