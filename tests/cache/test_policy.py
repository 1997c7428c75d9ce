"""What the client may ask of the cache, and what a policy makes of it."""

from __future__ import annotations

import pytest

from cache.policy import NO_WISH, CachePolicy, Wish, is_by_chance, parse_wish
from lib.problems import InvalidRequest


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        ("max-age=30", Wish(max_age=30)),
        (" Max-Age=0 ", Wish(max_age=0)),
        ("max-age=31536000", Wish(max_age=31_536_000)),
        ("no-store", Wish(no_store=True)),
        ("NO-CACHE , max-age=5", Wish(max_age=5, no_cache=True)),
        ("only-if-cached,max-age=5", Wish(max_age=5, only_if_cached=True)),
        ("no-store, no-cache", Wish(no_store=True, no_cache=True)),
        ("exact", Wish(exact=True)),
        ("max-age=5, Exact", Wish(max_age=5, exact=True)),
    ],
)
def test_wishes_are_understood(header: str, wish: Wish) -> None:
    assert parse_wish(header) == wish


@pytest.mark.parametrize(
    "header",
    [
        *("", ",", "no-store,", "max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=٣"),
        *("max-age=31536001", "max-age=9" + "9" * 100, 'max-age="5"', "max-age=5 s", "max_age=5"),
        *(
            "no-store=1",
            "exact=1",
            "exact, exact",
            "no-cache=",
            "max-age=5,max-age=5",
            "no-store, no-store",
            "public",
        ),
        *("only-if-cached, no-cache", "only-if-cached, no-store", "max-age=5, no-store"),
        *("max-age = 5", "no-store; no-cache", "stale-if-error=5", "no-cache" + " " * 300),
    ],
)
def test_nonsense_is_refused_with_what_to_say_instead(header: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_wish(header)
    assert refused.value.param == "X-Patchbay-Cache-Control"
    assert refused.value.extra["errors"][0]["detail"] == refused.value.detail


def test_nothing_is_kept_that_nobody_asked_for() -> None:
    assert not CachePolicy().keeps(NO_WISH, chance=False)
    assert CachePolicy(ttl=5).keeps(NO_WISH, chance=False)
    assert not CachePolicy(ttl=5).keeps(NO_WISH, chance=True)
    assert CachePolicy(ttl=5, sampled=True).keeps(NO_WISH, chance=True)
    assert CachePolicy().keeps(Wish(max_age=5), chance=True)
    assert CachePolicy(ttl=5).keeps(Wish(only_if_cached=True), chance=True)
    assert not CachePolicy(ttl=5, sampled=True).keeps(Wish(no_store=True), chance=False)


def test_spans_stay_within_the_bounds_and_the_terms() -> None:
    policy = CachePolicy(ttl=60, min_ttl=10, max_ttl=100, max_retention=50)
    assert policy.ttl_for(NO_WISH) == 50
    assert CachePolicy(max_ttl=100).ttl_for(Wish(max_age=500)) == 100
    assert CachePolicy(ttl=60).ttl_for(Wish(max_age=500)) == 60
    assert CachePolicy(min_ttl=10).ttl_for(NO_WISH) == 0
    assert [policy.lifetime(span) for span in (0, 20, 400)] == [10, 20, 50]


def test_only_a_temperature_of_0_leaves_nothing_to_chance() -> None:
    assert not is_by_chance("chat.completions", {"temperature": 0})
    assert not is_by_chance("chat.completions", {"temperature": 0.0})
    assert is_by_chance("chat.completions", {"temperature": 0.1})
    assert is_by_chance("chat.completions", {"temperature": None})
    assert is_by_chance("chat.completions", {})
    assert not is_by_chance("embeddings", {})
