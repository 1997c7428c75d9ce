"""Lists of limits and quotas as rows of a form: what is there comes back, and nothing is lost."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.rows import SPARE, LinesField
from tenants.limits import RATE_LIMITS_SCHEMA, validate_rate_limits
from tenants.models import ApiKey, HousePolicy, Plan, Tenant
from tenants.quotas import QUOTAS_SCHEMA, validate_quotas
from tests import factories

pytestmark = pytest.mark.django_db
FIELDS: dict[str, Any] = {
    f"{model.__name__.lower()}-{name}": model._meta.get_field(name).formfield()
    for model in (HousePolicy, Plan, Tenant, ApiKey)
    for name in ("rate_limits", "quotas")
}
QUOTA = {"scope": "tenant", "metric": "requests", "window": "day", "limit": 5}

_names = st.lists(
    st.text(st.characters(categories=["L", "N"], include_characters=".!_-"), min_size=1), max_size=3
)
LIMITS = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(RATE_LIMITS_SCHEMA["items"]["properties"]["scope"]["enum"]),
        "limit": st.integers(1, 1_000_000_000),
        "per_seconds": st.integers(1, 31_622_400),
    },
    optional={"metric": st.sampled_from(["requests", "tokens"]), "operations": _names},
)
QUOTAS = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(QUOTAS_SCHEMA["items"]["properties"]["scope"]["enum"]),
        "metric": st.sampled_from(["requests", "credits"]),
        "window": st.sampled_from(QUOTAS_SCHEMA["items"]["properties"]["window"]["enum"]),
        "limit": st.integers(0, 2**53 - 1),
    },
    optional={
        "hard": st.booleans(),
        "thresholds": st.lists(st.integers(1, 100), max_size=5, unique=True).map(sorted),
        "operations": _names,
        "weights": st.dictionaries(
            st.text(st.characters(categories=["L", "N"], include_characters="._-*"), min_size=1),
            st.integers(0, 1_000_000),
            max_size=3,
        ),
    },
)


def sent(field: Any, value: Any) -> QueryDict:
    """What a browser sends back of the form as it is drawn."""
    page = field.widget.render("rules", field.prepare_value(value))
    data = QueryDict(mutable=True)
    for tag in re.findall(r"<input [^>]+>", page):
        told = {name: html.unescape(text) for name, text in re.findall(r'([\w-]+)="([^"]*)"', tag)}
        if told["type"] != "checkbox":
            data[told["name"]] = told["value"]
        elif tag.endswith("checked>"):
            data[told["name"]] = "on"
    for name, options in re.findall(r'<select name="([^"]+)"(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options)
        data[name] = chosen[1] if chosen else ""
    return data


def read(field: Any, data: QueryDict) -> Any:
    return field.clean(field.widget.value_from_datadict(data, {}, "rules"))


@pytest.mark.parametrize(("name", "rules"), [("plan-rate_limits", LIMITS), ("plan-quotas", QUOTAS)])
def test_what_is_drawn_and_sent_back_is_what_it_was(name: str, rules: Any) -> None:
    field = FIELDS[name]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(rules, max_size=4))
    def check(value: list[dict[str, Any]]) -> None:
        assert read(field, sent(field, value)) == value
        assert not field.has_changed(
            value, field.widget.value_from_datadict(sent(field, value), {}, "rules")
        )

    check()


@pytest.mark.parametrize("name", FIELDS)
def test_no_list_and_an_empty_one_are_told_apart(name: str) -> None:
    field = FIELDS[name]
    assert read(field, sent(field, [])) == []
    if field.widget.unsaid:
        assert read(field, sent(field, None)) is None


@pytest.mark.parametrize("name", FIELDS)
def test_every_rule_of_the_schema_has_a_place_in_the_form(name: str) -> None:
    """What can be but one thing may be left unsaid."""
    of = FIELDS[name].widget.columns
    schema = (name.partition("-")[2] == "quotas" and QUOTAS_SCHEMA) or RATE_LIMITS_SCHEMA
    missing = schema["items"]["properties"].keys() - {column.name for column in of}
    assert missing == ({"scope"} if name == "apikey-quotas" else set())


def test_a_row_is_removed_and_one_is_added() -> None:
    field = FIELDS["plan-quotas"]
    data = sent(field, [QUOTA, {**QUOTA, "window": "month"}])
    data["rules-0-remove"] = "on"
    data["rules-2-scope"], data["rules-2-metric"] = "key", "cost"
    data["rules-2-window"], data["rules-2-limit_usd"] = "day", "1.50"
    data["rules-2-hard"], data["rules-2-thresholds"] = "false", "none"
    money = {"scope": "key", "metric": "cost", "window": "day", "limit_usd": "1.50"}
    assert read(field, data) == [
        {**QUOTA, "window": "month"},
        {**money, "hard": False, "thresholds": []},
    ]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({"limit": "many"}, "Row 1, Limit: "),
        ({"limit": "-1"}, "Row 1, Limit: "),
        ({"limit": ""}, "Row 1: Say how much"),
        ({"thresholds": "80, 50"}, "Row 1, Tell at, %: Write them in increasing order"),
        ({"weights": "embeddings"}, "Row 1, Weights: "),
        ({"scope": ""}, "Row 1: "),
        ({"window": "fortnight"}, "Row 1, Window: "),
    ],
)
def test_what_is_wrong_is_told_by_its_row(texts: dict[str, str], told: str) -> None:
    field = FIELDS["plan-quotas"]
    data = sent(field, [QUOTA])
    for name, text in texts.items():
        data[f"rules-0-{name}"] = text
    with pytest.raises(ValidationError) as caught:
        read(field, data)
    assert caught.value.messages[0].startswith(told)


@given(
    st.dictionaries(
        st.from_regex(r"rules(-(rows|unsaid|[0-3]-(scope|limit|hard|remove|weights|operations)))?"),
        st.text(max_size=12),
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_sent_is_a_list_that_holds_or_a_fault(told: dict[str, str]) -> None:
    data = QueryDict(mutable=True)
    data.update(told)
    for name in ("tenant-quotas", "tenant-rate_limits"):
        try:
            rules = read(FIELDS[name], data)
        except ValidationError:
            continue
        if "rules" not in told and rules is not None:
            (validate_quotas if name == "tenant-quotas" else validate_rate_limits)(rules)


def test_what_was_typed_stays_when_the_form_comes_back(browser: Client) -> None:
    house = HousePolicy.objects.create(quotas=[QUOTA])
    where = reverse("admin:tenants_housepolicy_change", args=[house.pk])
    form = {"time_zone": "UTC", "rate_limits-rows": "0", "quotas-rows": str(1 + SPARE)}
    form |= {f"quotas-0-{name}": str(value) for name, value in QUOTA.items()}
    wrong = browser.post(where, form | {"quotas-0-limit": "5 or <so>"})
    assert wrong.status_code == 200
    page = wrong.content.decode()
    assert "Row 1, Limit: " in page and 'value="5 or &lt;so&gt;"' in page
    house.refresh_from_db()
    assert house.quotas == [QUOTA]
    assert browser.post(where, form | {"quotas-0-limit": "1,500"}).status_code == 302
    house.refresh_from_db()
    assert (house.quotas, house.rate_limits) == ([{**QUOTA, "limit": 1500}], [])


WORDS = st.lists(st.from_regex(r"[a-z*:./0-9]+", fullmatch=True))


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_a_list_of_words_comes_back_from_its_lines(words: list[str]) -> None:
    field = LinesField()
    text = field.prepare_value(words)
    assert field.clean(text) == words
    assert not field.has_changed(words, text)
    assert field.clean(text.replace("\n", "\r\n ") + "\r\n") == words


def test_a_key_is_made_of_lines(browser: Client) -> None:
    project = factories.ProjectFactory()
    form = {"project": project.pk, "mode": "test", "name": "ci", "rate_limits-unsaid": "on"}
    form |= {"quotas-rows": "0", "scopes": "chat.completions\r\nfinance.*"}
    add = reverse("admin:tenants_apikey_add")
    for texts in ({"scopes": "No-such"}, {"scopes": ""}, {"allowed_ips": "10.0.0.300"}):
        assert browser.post(add, form | texts).status_code == 200
    assert not ApiKey.objects.exists()
    browser.post(add, form | {"allowed_ips": "203.0.113.0/24, 2001:db8::/32"})
    key = ApiKey.objects.get()
    assert key.scopes == ["chat.completions", "finance.*"]
    assert key.allowed_ips == ["203.0.113.0/24", "2001:db8::/32"]
    assert (key.rate_limits, key.quotas) == (None, [])
