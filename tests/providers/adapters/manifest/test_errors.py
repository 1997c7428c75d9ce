"""How attempts end: rules before HTTP, waiting times, and what is kept of the provider's words."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.manifest.errors import (
    MAX_RETRY_AFTER,
    Reply,
    Rule,
    by_http,
    cleaned,
    first_match,
    header_wait,
)
from providers.adapters.manifest.expression import Expression, ExpressionError
from providers.adapters.manifest.mapping import Source
from providers.adapters.manifest.transforms import compile_steps
from providers.call import Verdict


@pytest.mark.parametrize(
    ("status", "document", "verdict"),
    [
        (200, {"a": 1}, Verdict.OK),
        (200, None, Verdict.BAD_PAYLOAD),
        (204, None, Verdict.EMPTY),
        (301, {}, Verdict.BAD_PAYLOAD),
        (304, None, Verdict.BAD_PAYLOAD),
        (400, {}, Verdict.INVALID_REQUEST),
        (401, {}, Verdict.AUTH),
        (402, {}, Verdict.QUOTA_EXHAUSTED),
        (403, {}, Verdict.AUTH),
        (404, {}, Verdict.NOT_FOUND),
        (404, None, Verdict.BLOCKED),
        (408, None, Verdict.TIMEOUT),
        (409, {}, Verdict.UNAVAILABLE),
        (418, {}, Verdict.INVALID_REQUEST),
        (429, None, Verdict.RATE_LIMITED),
        (451, None, Verdict.BLOCKED),
        (500, {}, Verdict.UNAVAILABLE),
        (504, None, Verdict.TIMEOUT),
        (524, None, Verdict.TIMEOUT),
        (529, None, Verdict.UNAVAILABLE),
    ],
)
def test_what_http_alone_says(status: int, document: Any, verdict: Verdict) -> None:
    assert by_http(Reply(status, {}, document)) is verdict


def test_the_first_rule_that_matches_counts() -> None:
    narrow = Rule(Verdict.QUOTA_EXHAUSTED, predicate=Expression.parse("contains(error, 'day')"))
    wide = Rule(Verdict.RATE_LIMITED, statuses=frozenset({429}))
    assert first_match([narrow, wide], Reply(429, {}, {"error": "per day"})) is narrow
    assert first_match([narrow, wide], Reply(429, {}, {"error": "per second"})) is wide
    assert first_match([narrow, wide], Reply(200, {}, {})) is None


def test_all_conditions_of_a_rule_must_hold() -> None:
    rule = Rule(
        Verdict.BLOCKED,
        statuses=frozenset({403}),
        headers={"server": "cloud"},
        content_type="text/html",
    )
    headers = {"server": "a cloud", "content-type": "Text/HTML; charset=utf-8"}
    assert rule.matches(Reply(403, headers))
    assert not rule.matches(Reply(404, headers))
    assert not rule.matches(Reply(403, {**headers, "server": "x"}))
    assert not rule.matches(Reply(403, {**headers, "content-type": "application/json"}))
    assert not rule.matches(Reply(403, {}))


@pytest.mark.parametrize(
    ("source", "document", "holds"),
    [
        ("a", {"a": 0}, True),
        ("a", {"a": False}, False),
        ("a", {"a": ""}, False),
        ("a", {}, False),
        ("!a", {}, True),
        ("!a", None, False),
        ("contains(a, 'x')", {"a": 5}, False),
        ("contains(a, 'x')", [], False),
        ("a == `0`", {"a": False}, False),
        ("a > `1`", {"a": "z"}, False),
    ],
)
def test_predicates_on_hostile_documents(source: str, document: Any, holds: bool) -> None:
    assert Expression.parse(source).holds(document) is holds


@pytest.mark.parametrize("source", ["", "a[", "(" * 400, "a" * 501, "nope(@", "@@"])
def test_what_is_no_jmespath_is_refused(source: str) -> None:
    with pytest.raises(ExpressionError):
        Expression.parse(source)


@pytest.mark.filterwarnings("ignore:deprecated string literal")
@given(st.text("abc.[]()@|&!=<>`'\"*{}:,?0 ", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_expression_or_refused(source: str) -> None:
    try:
        expression = Expression.parse(source)
    except ExpressionError:
        return
    expression.search({"a": [1, {"b": "c"}]})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "999999999"}, MAX_RETRY_AFTER),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1m30s"}, 90.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "999h"}, MAX_RETRY_AFTER),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "60"}, None),
        (
            {
                "retry-after": "Sat, 21 Nov 2026 10:00:30 GMT",
                "date": "Sat, 21 Nov 2026 10:00:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert header_wait(headers) == seconds


def test_the_body_says_the_wait_before_the_header_and_a_constant_after_it() -> None:
    steps = compile_steps([{"before": "s"}, "number"], {})
    told = Rule(Verdict.RATE_LIMITED, retry_after=Source(path=Expression.parse("wait"), step=steps))
    constant = Rule(Verdict.RATE_LIMITED, retry_after=Source(value=60))
    assert told.wait(Reply(429, {"retry-after": "5"}, {"wait": "34.4s"})) == 34.4
    assert told.wait(Reply(429, {"retry-after": "5"}, {"wait": []})) == 5
    assert told.wait(Reply(429, {}, {})) is None
    assert constant.wait(Reply(429, {}, {})) == 60
    assert constant.wait(Reply(429, {"retry-after": "5"}, {})) == 5


@pytest.mark.parametrize(
    "key", ["ABCDEFGH12345678", "sk-live-0a1b2c3d4e5f", "a" * 20 + "1", "eyJ0.eyJ1.sig-9"]
)
def test_a_key_that_a_provider_echoes_does_not_get_through(key: str) -> None:
    assert key not in cleaned(f"We have detected your API key as {key} and refuse it.")


@given(st.text(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_words_become_one_short_printable_line(text: str) -> None:
    line = cleaned(text)
    assert len(line) <= 300
    assert not any(ord(character) < 32 for character in line)
    line.encode()
