"""RFC 9111 and RFC 5861: what may be kept, how old it is, and what may be served when."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.freshness import (
    LONGEST,
    Freshness,
    State,
    Times,
    adapted,
    conditional,
    directives,
    freshness,
    http_date,
    initial_age,
    kept_headers,
    none_match,
    tells,
    updated,
    varied,
)
from cache.policy import CachePolicy
from tests.cache import rfc
from tests.cache.rfc import NOON, Said

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
POLICY = CachePolicy(ttl=60)


@settings(max_examples=400)
@given(rfc.said, rfc.policies, st.integers(0, 3), st.integers(0, 8), st.randoms())
def test_what_the_standards_say(
    told: Said, policy: CachePolicy, asked: int, delay: int, chance: random.Random
) -> None:
    came = asked + delay
    times = Times(NOON + asked, NOON + came)
    fresh = freshness(told.headers(chance), times, policy, ttl=policy.ttl)
    assert (fresh is not None) == rfc.may_store(told, policy)
    if fresh is None:
        return
    edges = {fresh.lifetime, fresh.lifetime + 7, fresh.lifetime + 50}
    for later in {
        0,
        1,
        5,
        3700,
        *(int(edge - fresh.age) + step for edge in edges for step in (-1, 0, 1)),
    }:
        if later >= 0:
            expected = rfc.state(told, policy, (asked, came), came + later)
            assert fresh.state(NOON + came + later) is expected, later
    usable = fresh.usable_for
    assert fresh.state(NOON + came + usable) is State.DEAD
    assert usable + fresh.age <= policy.max_retention or usable == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("max-age=5", {"max-age": "5"}),
        (' MAX-AGE="5" ,, no-cache ', {"max-age": "5", "no-cache": ""}),
        ('private="set-cookie, x", max-age=1', {"private": "set-cookie, x", "max-age": "1"}),
        ('a="b\\"c", d', {"a": 'b"c', "d": ""}),
        ("max-age=5, max-age=5", {"max-age": "5"}),
        ("max-age=5, max-age=6", {"max-age": "?"}),
        ("max-age=5, max-age=6, max-age=6", {"max-age": "?"}),
        ('x="an end, max-age=5', {"x": "", "an": "", "end": "", "max-age": "5"}),
        ("(junk), max-age=5", {"junk": "", "max-age": "5"}),
        ("no-store;max-age=5, private", {"no-store": "", "max-age": "5", "private": ""}),
        ("max-age=5 no-store", {"max-age": "5", "no-store": ""}),
        ("max-age = 5", {"max-age": "", "5": ""}),
        ("max-age=, s-maxage", {"max-age": "", "s-maxage": ""}),
    ],
)
def test_directives_are_read_as_the_standard_says(text: str, found: dict[str, str]) -> None:
    assert directives(text) == found


@given(st.text(alphabet='a=",\\; -0\t', max_size=60))
def test_no_text_confuses_the_reader(text: str) -> None:
    assert all(name == name.lower() for name in directives(text))


def test_hostile_text_is_read_in_no_time() -> None:
    begun = time.thread_time()
    for text in ("," * 30_000, ' x="a' * 6_000, '"' * 30_000, "a=" * 15_000, " " * 30_000):
        directives(text)
    assert time.thread_time() - begun < 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("max-age=010", 10),
        ("max-age=" + "9" * 5000, LONGEST),
        ("max-age=-5", 0),
        ("max-age=1.5", 0),
        ("max-age=1, max-age=2", 0),
        ("s-maxage=0, max-age=50", 0),
        ("max-age", 0),
        ("max-age = 5", 0),
        ("no-cache, max-age=50", 0),
        ('no-cache="x", max-age=50', 0),
    ],
)
def test_how_long_what_is_said_holds(said: str, seconds: int) -> None:
    policy = CachePolicy(ttl=60, max_ttl=1e10)
    fresh = freshness({"cache-control": said}, Times(NOON, NOON), policy, ttl=60)
    assert fresh is not None and fresh.lifetime == seconds


def test_what_is_to_be_asked_for_each_time_is_never_fresh() -> None:
    policy = CachePolicy(ttl=60, min_ttl=30)
    for said, seconds in (("no-cache", 0), ("max-age=0", 30), ("no-cache, max-age=50", 0)):
        fresh = freshness({"cache-control": said}, Times(NOON, NOON), policy, ttl=60)
        assert fresh is not None and fresh.lifetime == seconds


@pytest.mark.parametrize(
    "headers",
    [
        {"cache-control": "no-store"},
        {"cache-control": "max-age=60, NO-STORE"},
        {"vary": "*"},
        {"vary": "accept, *"},
    ],
)
def test_what_is_never_kept(headers: dict[str, str]) -> None:
    assert freshness(headers, Times(NOON, NOON), POLICY, ttl=60) is None


def test_dates() -> None:
    moment = 784111777.0
    assert http_date(DATE) == moment
    assert http_date("Sunday, 06-Nov-94 08:49:37 GMT") == moment
    assert http_date("Sun Nov  6 08:49:37 1994") == moment
    for wrong in (
        *(
            "",
            "0",
            "-1",
            "now",
            DATE + " ",
            DATE.replace("GMT", "UTC"),
            DATE.replace("GMT", "+0100"),
        ),
        *("Sun, 06 Nov 1994 08:49 GMT", "Sun, 36 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37Z"),
        "Sun, 06 Foo 1994 08:49:37 GMT",
    ):
        assert http_date(wrong) is None, wrong


def test_a_clock_that_goes_back_makes_nothing_younger() -> None:
    fresh = Freshness(at=NOON, lifetime=10, age=4)
    assert fresh.age_at(NOON - 1000) == 4
    assert fresh.state(NOON - 1000) is State.FRESH
    assert fresh.age_at(NOON + 5) == 9


def test_a_client_gets_nothing_older_than_it_wants() -> None:
    fresh = Freshness(at=NOON, lifetime=10, while_revalidating=10, if_error=99)
    assert fresh.state(NOON + 5, max_age=5) is State.FRESH
    assert fresh.state(NOON + 6, max_age=5) is State.DEAD
    assert fresh.state(NOON + 15, max_age=99) is State.WHILE_REVALIDATING


def test_ages_that_are_told() -> None:
    times = Times(NOON, NOON + 2)
    assert initial_age({}, times) == 2
    assert initial_age({"age": "7"}, times) == 9
    assert initial_age({"age": "7, 9"}, times) == 9
    assert initial_age({"age": "-7"}, times) == 2
    assert initial_age({"date": DATE, "age": "7"}, times) == NOON + 2 - 784111777


def test_revalidation_asks_with_what_was_told() -> None:
    assert conditional({}) == {}
    kept = {"etag": 'W/"a"', "last-modified": DATE}
    assert conditional(kept) == {"if-none-match": 'W/"a"', "if-modified-since": DATE}
    assert conditional({"etag": "bare", "last-modified": "yesterday"}) == {}
    assert conditional({"etag": '"a"\r\nx: y'}) == {}


def test_a_304_updates_what_is_kept() -> None:
    kept = {"etag": '"a"', "cache-control": "max-age=5", "date": DATE, "age": "3", "vary": "accept"}
    told = updated(kept, {"etag": 'W/"a"', "cache-control": "max-age=9", "server": "x"})
    assert told == {"etag": 'W/"a"', "cache-control": "max-age=9", "vary": "accept"}
    assert updated(kept, {}) == {"etag": '"a"', "cache-control": "max-age=5", "vary": "accept"}
    assert updated(kept, {"etag": '"b"'}) is None
    assert updated({}, {"etag": '"b"'}) is None


def test_what_the_answer_depends_on() -> None:
    assert varied({}, {"accept": "x"}) == ()
    asked = {"accept-language": "sv", "accept": "x"}
    assert varied({"vary": "Accept-Language,, Accept-Encoding"}, asked) == (
        ("accept-encoding", ""),
        ("accept-language", "sv"),
    )


def test_no_other_header_is_kept() -> None:
    headers = {"set-cookie": "a=b", "etag": '"a"', "x-account": "7", "authorization": "k"}
    assert kept_headers(headers) == (("etag", '"a"'),)


def test_clients_that_have_it_already() -> None:
    assert none_match("*", '"a"')
    assert none_match('"b", W/"a"', '"a"')
    assert none_match('"a,b"', '"a,b"')
    assert not none_match('"a,b"', '"a"')
    assert not none_match("a", '"a"')
    assert not none_match("", '"a"')


@given(st.lists(st.booleans(), max_size=30), st.floats(0, 1000))
def test_an_adaptive_ttl_moves_within_its_bounds(changes: list[bool], ttl: float) -> None:
    policy = CachePolicy(min_ttl=2, max_ttl=300, max_retention=200)
    for changed in changes:
        before = policy.lifetime(ttl)
        ttl = adapted(before, policy, changed=changed)
        assert 2 <= ttl <= 200
        assert ttl <= before if changed else ttl >= before


def test_whether_the_provider_says_anything() -> None:
    assert tells({"cache-control": "max-age=0"}) and tells({"expires": "0"})
    assert not tells({}) and not tells({"cache-control": "private", "etag": '"a"'})
