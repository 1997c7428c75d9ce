"""Rules as fields of a form: what is there comes back, what is empty is unsaid and shows what holds."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.rules import RulesField
from providers import answer_checks, breaker_policy, cache_rules, timeouts
from providers.models import Provider
from providers.presets import PRESETS
from providers.resilience import RETRY_SCHEMA
from providers.rule_forms import ProviderForm, RouteForm
from tests import factories
from tests.admin.test_rows import read, sent
from tests.admin.test_takeover import shown, where

pytestmark = pytest.mark.django_db
FIELDS: dict[str, Any] = {
    **{name: ProviderForm.base_fields[name] for name in ("timeouts", "breaker", "retry")},
    **{name: RouteForm.base_fields[name] for name in ("checks", "cache")},
}
SCHEMAS: dict[str, Any] = {
    "timeouts": timeouts.SCHEMA,
    "breaker": breaker_policy.SCHEMA,
    "retry": RETRY_SCHEMA,
    "checks": answer_checks.SCHEMA,
    "cache": cache_rules.SCHEMA,
}
_RATES = {
    "consecutive_failures": st.integers(1, 1_000_000),
    "failure_rate_threshold": st.integers(1, 100) | st.sampled_from([0.5, 99.25]),
    "slow_call_seconds": st.sampled_from([0.001, 1, 2.5, 86_400]),
    "window": st.sampled_from([{"type": "count", "calls": 9}, {"type": "time", "seconds": 60}]),
}
SAID: dict[str, Any] = {
    "timeouts": st.dictionaries(
        st.sampled_from(["connect_ms", "first_byte_ms", "idle_ms", "total_ms"]),
        st.integers(1, timeouts.MAX_MS),
    ),
    "breaker": st.fixed_dictionaries(
        {},
        optional=_RATES
        | {
            "preset": st.sampled_from(list(PRESETS)),
            "provider": st.fixed_dictionaries(
                {"minimum_calls": st.integers(1, 9)}, optional=_RATES
            ),
        },
    ),
    "checks": st.fixed_dictionaries(
        {},
        optional={
            "not_empty": st.booleans(),
            "min_characters": st.integers(1, 9),
            "schema": st.sampled_from([{"type": "object"}, {"required": ["a", "é"]}]),
            "forbidden": st.lists(
                st.sampled_from(["as an AI", "a, b", "[0-9]{4}"]), min_size=1, max_size=3
            ),
        },
    ),
    "cache": st.fixed_dictionaries(
        {},
        optional={
            "ttl": st.integers(0, 99),
            "sampled": st.booleans(),
            "semantic": st.just({"route": "vectors", "threshold": 0.95}),
        },
    ),
}


def _names(schema: Any, within: str = "") -> list[str]:
    return [
        leaf
        for name, of in schema["properties"].items()
        for leaf in (_names(of, f"{within}{name}/") if "properties" in of else [f"{within}{name}"])
    ]


def drawn(field: RulesField, value: Any) -> QueryDict:
    data = sent(field, value)
    page = field.widget.render("rules", value)
    for name, text in re.findall(r'<textarea name="([^"]+)"[^>]*>([^<]*)</textarea>', page):
        data[name] = text.replace("&quot;", '"').replace("\n", "\r\n")
    return data


@pytest.mark.parametrize("name", SAID)
def test_what_is_drawn_and_sent_back_is_what_it_was(name: str) -> None:
    field = FIELDS[name]

    @settings(max_examples=30, deadline=None)
    @given(SAID[name])
    def check(value: dict[str, Any]) -> None:
        data = drawn(field, value)
        assert read(field, data) == value
        assert not field.has_changed(value, field.widget.value_from_datadict(data, {}, "rules"))

    check()


@pytest.mark.parametrize("name", FIELDS)
def test_every_rule_of_the_schema_has_a_field(name: str) -> None:
    assert [column.name for column in FIELDS[name].widget.columns] == _names(SCHEMAS[name])


@pytest.mark.parametrize(
    ("name", "texts", "told"),
    [
        ("timeouts", {"total_ms": "5s"}, "All in all, ms: Must be integer."),
        ("timeouts", {"idle_ms": "1.5"}, "Between two chunks, ms: Must be integer."),
        ("breaker", {"failure_rate_threshold": "0"}, "Failures, %: Must be more than 0."),
        ("breaker", {"window/calls": "5"}, "Rates are of: This is required."),
        ("breaker", {"window/type": "time"}, "Rates are of: Say &quot;seconds&quot;"),
        (
            "breaker",
            {"provider/open_seconds": "soon"},
            "The provider as a whole, where it differs: Stays open, s: Must be number.",
        ),
        ("retry", {"max_attempts": "0"}, "Tries at one target: Must be at least 1."),
        ("cache", {"semantic/verify": "0.5"}, "Semantic: embeddings route"),
        ("checks", {"schema": "{"}, "JSON Schema that it fits: "),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_by_its_field(name: str, texts: dict[str, str], told: str) -> None:
    data = QueryDict(mutable=True)
    data.update({f"rules-{place}": text for place, text in texts.items()})
    with pytest.raises(ValidationError) as caught:
        read(FIELDS[name], data)
    assert caught.value.messages[0].startswith(told.replace("&quot;", '"'))


@given(
    st.dictionaries(
        st.sampled_from([f"rules-{name}" for name in ("schema", "forbidden", "json", "no")]),
        st.text(max_size=12),
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_is_rules_that_hold_or_a_fault(told: dict[str, str]) -> None:
    data = QueryDict(mutable=True)
    data.update(told)
    with suppress(ValidationError):
        answer_checks.parse(read(FIELDS["checks"], data) or {})


def test_a_form_shows_what_holds_where_nothing_is_said(browser: Client) -> None:
    lab = factories.ProviderFactory(slug="lab", breaker={"preset": "production"})
    page = browser.get(where(lab)).content.decode()
    assert _place(page, "timeouts-total_ms") == "60000"
    assert _place(page, "breaker-consecutive_failures") == "10"  # the preset's
    assert _place(page, "breaker-provider/open_seconds") == "120"
    assert _place(page, "retry-max_attempts") == "5"
    assert '<option value="production" selected' in page


def test_a_rule_is_written_and_taken_back(browser: Client) -> None:
    lab = factories.ProviderFactory(slug="lab", retry={"max_attempts": 7})
    form = {name: text for name, text in shown(browser, lab).items() if name != "retry"}
    texts = {"retry-base_seconds": "0.5", "retry-max_attempts": ""}
    assert browser.post(where(lab), form | texts).status_code == 302
    assert Provider.objects.get().retry == {"base_seconds": 0.5}


def test_what_is_not_sent_stays(browser: Client) -> None:
    lab = factories.ProviderFactory(slug="lab", retry={"max_attempts": 7})
    form = {name: text for name, text in shown(browser, lab).items() if name != "retry"}
    assert browser.post(where(lab), form).status_code == 302
    assert Provider.objects.get().retry == {"max_attempts": 7}


def test_what_was_typed_stays_when_the_form_comes_back(browser: Client) -> None:
    lab = factories.ProviderFactory(slug="lab")
    form = {name: text for name, text in shown(browser, lab).items() if name != "timeouts"}
    wrong = browser.post(where(lab), form | {"timeouts-total_ms": "5 or <so>"})
    assert wrong.status_code == 200 and 'value="5 or &lt;so&gt;"' in wrong.content.decode()


def test_whoever_only_looks_sees_them_too() -> None:
    lab = factories.ProviderFactory(slug="lab", retry={"max_attempts": 7})
    viewer = factories.UserFactory(is_staff=True)
    viewer.user_permissions.add(*_permissions("view_provider"))
    client = Client()
    client.force_login(viewer)
    page = client.get(reverse("admin:providers_provider_change", args=[lab.pk]))
    assert page.status_code == 200 and "max_attempts" in page.content.decode()


def _permissions(*names: str) -> Any:
    return Permission.objects.filter(codename__in=names)


def _place(page: str, name: str) -> str:
    found = re.search(f'name="{re.escape(name)}"[^>]*placeholder="([^"]*)"', page)
    return found[1] if found else ""


def test_rules_are_sent_as_json_too(browser: Client) -> None:
    lab = factories.ProviderFactory(slug="lab")
    form = shown(browser, lab) | {"breaker": json.dumps({"open_seconds": 9})}
    assert browser.post(where(lab), form).status_code == 302
    assert Provider.objects.get().breaker == {"open_seconds": 9}
