"""Rules of the cache: what is none is told with its place, and the nearer ones go first."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from cache.policy import CachePolicy
from providers.cache_rules import HOUR, WEEK, CacheFault, Semantic, merged, parse, semantic
from providers.models import Route
from providers.operations import Kind, registry


@pytest.mark.parametrize(
    ("rules", "place"),
    [
        ([], "cache"),
        ("300", "cache"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": 0.5}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": 31_536_001}, "ttl"),
        ({"time": 300}, "cache"),
        ({"ttl": 10, "min_ttl": 20}, "ttl"),
        ({"ttl": 10, "max_ttl": 5}, "ttl"),
        ({"min_ttl": 20, "max_ttl": 10}, "min_ttl"),
        ({"ttl": 10, "adaptive": True}, "adaptive"),
        ({"ttl": 10, "adaptive": True, "max_ttl": 60}, "adaptive"),
        ({"public": "yes"}, "public"),
        ({"semantic": True}, "semantic"),
        ({"semantic": {}}, "semantic"),
        ({"semantic": {"route": ""}}, "semantic/route"),
        ({"semantic": {"route": "emb", "threshold": 1.1}}, "semantic/threshold"),
        ({"semantic": {"route": "emb", "threshold": 0.2}}, "semantic/threshold"),
        ({"semantic": {"route": "emb", "verify": 2}}, "semantic/verify"),
        ({"semantic": {"route": "emb", "most": 2}}, "semantic"),
        ({"semantic": {"route": "emb"}, "public": True}, "semantic"),
    ],
)
def test_what_is_no_rule_is_told_with_its_place(rules: Any, place: str) -> None:
    with pytest.raises(CacheFault) as raised:
        parse(rules)
    assert str(raised.value).startswith(f"{place}: ")
    route = Route(operation="finance.quote", cache=rules)
    with pytest.raises(ValidationError) as refused:
        route.clean()
    assert "cache" in refused.value.message_dict


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"ttl": 0},
        {"ttl": 0, "min_ttl": 10},
        {"ttl": 300, "min_ttl": 60, "max_ttl": 900, "adaptive": True},
        {"stale_if_error": 86_400, "sampled": True},
        {"semantic": {"route": "emb"}},
        {"semantic": {"route": "emb", "threshold": 1, "verify": 0}, "sampled": True},
    ],
)
def test_rules_are_taken_as_they_are(rules: dict[str, Any]) -> None:
    assert parse(rules) == rules


def test_a_routes_rules_go_before_the_operations() -> None:
    assert merged({"ttl": 300, "public": True}, {"ttl": 60}) == {
        "ttl": 60,
        "public": True,
        "stale_while_revalidate": 60,
        "stale_if_error": HOUR,
    }
    assert merged({"ttl": 86_400}, {})["stale_if_error"] == WEEK
    assert merged({"ttl": 300}, {"stale_if_error": 0})["stale_if_error"] == 0
    off = merged({"ttl": 300}, {"ttl": 0})
    assert (off["ttl"], off["stale_if_error"]) == (0, 0)


def test_a_ttl_of_more_than_a_day_is_kept_to_unless_a_bound_is_said() -> None:
    assert CachePolicy(**merged({"ttl": WEEK})).lifetime(WEEK) == WEEK
    assert CachePolicy(**merged({"ttl": WEEK}, {"max_ttl": 60})).lifetime(WEEK) == 60
    assert CachePolicy(**merged({"ttl": WEEK}, {"ttl": 60})).lifetime(WEEK) == 86_400


def test_everybody_shares_only_what_says_nothing_of_who_asked() -> None:
    public = {name for name, operation in registry().items() if operation.cache.get("public")}
    assert "weather.current" in public
    assert public.isdisjoint({"geo.geocode", "geo.ip_lookup", "medical.drug_label", "news.search"})
    models = {name for name, each in registry().items() if each.kind is not Kind.DATA}
    assert public.isdisjoint(models)


def test_questions_are_compared_on_chat_routes_alone() -> None:
    rules = {"ttl": 5, "semantic": {"route": "emb", "threshold": 0.9}}
    told = semantic(rules)
    assert told == Semantic("emb", 0.9, 0.05) and semantic({"ttl": 5}) is None
    assert "semantic" not in merged({"ttl": 300}, rules) and "semantic" in rules
    Route(operation="chat.completions", alias="m", cache=rules).clean()
    for operation, alias in (("embeddings", "m"), ("finance.quote", "")):
        with pytest.raises(ValidationError, match=r"chat\.completions"):
            Route(operation=operation, alias=alias, cache=rules).clean()
