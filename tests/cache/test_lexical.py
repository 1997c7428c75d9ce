"""What tells two questions apart that an embedding takes for one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache.lexical import facts, is_readable, told_apart
from tests.cache.questions import APART, ONE, pairs


@pytest.mark.parametrize(("one", "other"), pairs(APART))
def test_they_are_two_questions(one: str, other: str) -> None:
    assert told_apart(facts(one), facts(other))
    assert told_apart(facts(other), facts(one))
    assert told_apart(facts(f"Hello. {one}"), facts(other.upper()))


@pytest.mark.parametrize(("one", "other"), pairs(ONE))
def test_they_are_one_question(one: str, other: str) -> None:
    assert not told_apart(facts(one), facts(other))
    assert not told_apart(facts(other), facts(one))


@given(st.text(), st.text())
@example("\0", "\ud800")
@example("''", '""')
def test_whatever_is_asked_it_is_the_same_as_itself_and_both_ways_alike(
    one: str, other: str
) -> None:
    a, b = facts(one), facts(other)
    assert not told_apart(a, facts(one))
    assert told_apart(a, b) is told_apart(b, a)


@given(
    st.lists(
        st.sampled_from(["how", "do", "i", "reset", "the", "password", "in", "paris"]), min_size=1
    )
)
def test_another_number_is_always_another_question(words: list[str]) -> None:
    text = " ".join(words)
    assert told_apart(facts(f"{text} 12"), facts(f"{text} 13"))
    assert told_apart(facts(text), facts(f"{text} 12"))
    assert told_apart(facts(text), facts(f"not {text}"))


def test_where_names_cannot_be_seen_nothing_is_compared() -> None:
    for text in ("北京天气", "ما الطقس", "मौसम", "אתמול", "tell me 北", "อากาศ"):
        assert not is_readable(text)
    for text in ("", "Wie spät ist es?", "Какая погода?", "τι ώρα είναι", "1 + 1 = 2 😀"):
        assert is_readable(text)
