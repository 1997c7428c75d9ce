"""Staff's word on a breaker from the admin: with a reason, for a while, and on the record."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from api.vitals import WORKER
from lib.models import Revision, Topic
from providers.breaker import State
from providers.models import BreakerOverride
from providers.services import override_breaker
from tests.factories import ModelFactory, OperationFactory, ProviderFactory, TargetFactory

pytestmark = pytest.mark.django_db
LIST = "admin:providers_provider_changelist"


def say(browser: Client, *providers: Any, **words: Any) -> Any:
    chosen = [provider.pk for provider in providers]
    action = {"action": "override_breaker", "_selected_action": chosen, **words}
    return browser.post(reverse(LIST), action)


def test_it_asks_for_a_reason_first(browser: Client) -> None:
    page = say(browser, ProviderFactory(slug="lab")).content.decode()
    assert 'name="reason"' in page and 'name="minutes"' in page
    assert not BreakerOverride.objects.exists()
    for words in ({"reason": "  "}, {"state": "HALF_OPEN"}, {"minutes": "0"}, {"minutes": "soon"}):
        told = {"sure": "1", "state": "FORCED_OPEN", "reason": "down", **words}
        assert "errorlist" in say(browser, ProviderFactory(), **told).content.decode(), words
    assert not BreakerOverride.objects.exists()


def test_it_is_published_and_on_the_record(browser: Client, superuser: Any) -> None:
    providers = [ProviderFactory(slug="lab"), ProviderFactory(slug="lab2")]
    before = Revision.numbers().get(Topic.ROUTING, 0)
    words = {"sure": "1", "state": "FORCED_OPEN", "reason": "maintenance", "minutes": "5"}
    assert say(browser, *providers, **words).status_code == 302
    assert Revision.numbers()[Topic.ROUTING] > before
    rows = BreakerOverride.latest(timezone.now())
    assert {row.name for row in rows} == {"lab", "lab2"}
    for row in rows:
        assert (row.state, row.reason, row.by) == ("FORCED_OPEN", "maintenance", superuser.email)
        assert 290 < (row.expires_at - timezone.now()).total_seconds() <= 300
    entries = LogEntry.objects.filter(user=superuser)
    assert len(entries) == 2 and all("maintenance" in entry.change_message for entry in entries)


def test_a_target_has_its_own_and_no_word_is_taken_back(browser: Client) -> None:
    model = ModelFactory(provider__slug="lab", model_id="org/gpt-x:free")
    add = reverse("admin:providers_breakeroverride_add")
    form = {"name": "lab/org/gpt-x:free", "state": "DISABLED", "reason": "flaky probe"}
    assert browser.post(add, form).status_code == 302
    (row,) = BreakerOverride.latest(timezone.now())
    assert row.name == f"lab/{model.model_id}" and row.by
    for wrong in ("nobody", "lab/none", "", "test:1:lab"):
        assert browser.post(add, {**form, "name": wrong}).status_code == 200
    change = reverse("admin:providers_breakeroverride_change", args=[row.pk])
    assert browser.get(change).status_code == 200
    assert browser.post(change, {**form, "reason": "another"}).status_code == 403
    assert BreakerOverride.objects.count() == 1


def test_the_list_says_which_word_is_in_force(browser: Client) -> None:
    for slug in ("lab", "other", "third"):
        ProviderFactory(slug=slug)
        override_breaker(name=slug, state="FORCED_OPEN", reason="<b>r</b>", by="me")
    override_breaker(name="other", state="CLOSED", reason="r", by="me")
    ended = timezone.now() + dt.timedelta(hours=1)
    override_breaker(name="third", state="DISABLED", reason="r", by="me", expires_at=ended)
    BreakerOverride.objects.filter(state="DISABLED").update(expires_at=timezone.now())
    page = browser.get(reverse("admin:providers_breakeroverride_changelist"))
    rows = page.context["cl"].result_list
    admin_page = admin.site._registry[BreakerOverride]
    holds = [(row.name, row.state) for row in rows if admin_page.holds(row)]
    assert holds == [("lab", "FORCED_OPEN")]
    assert "<b>r</b>" not in page.content.decode()


def test_operations_tell_how_many_targets_serve_them(browser: Client) -> None:
    OperationFactory(name="chat.completions")
    OperationFactory(name="finance.quote")
    route = TargetFactory().route
    TargetFactory(route=route, enabled=False)
    TargetFactory(route=route, model__provider__enabled=False)
    rows = browser.get(reverse("admin:providers_operation_changelist")).context["cl"].result_list
    assert {row.name: row.served for row in rows} == {"chat.completions": 1, "finance.quote": None}


def test_what_staff_ended_is_over_at_once_on_the_page(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers hear of it within a second, and the page comes sooner."""
    lab = ProviderFactory(slug="lab")
    monkeypatch.setattr(WORKER, "breakers", lambda: {"lab": State.FORCED_OPEN})
    page = reverse("admin:providers_provider_change", args=[lab.pk])
    override_breaker(name="lab", state="FORCED_OPEN", reason="unpaid", by="ann")
    assert "<strong>FORCED_OPEN</strong>" in (shown := browser.get(page).content.decode())
    assert "ann: “unpaid”" in shown
    override_breaker(name="lab", state="CLOSED", reason="paid", by="ann")
    shown = browser.get(page).content.decode()
    assert "<strong>CLOSED</strong>" in shown and "“paid”" not in shown
    (row,) = browser.get(reverse(LIST)).context["cl"].result_list
    assert row.breaker_state is State.CLOSED
