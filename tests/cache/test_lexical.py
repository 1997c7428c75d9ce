"""What tells two questions apart that an embedding takes for one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache.lexical import facts, is_readable, told_apart

APART = """
price of AAPL | price of MSFT
price of apple | price of google
is ibuprofen safe | is ibuprofen not safe
Is it safe? | Isn't it safe?
can I take it with food | can I take it without food
can you do this | you can't do this
do dogs eat chocolate | dogs never eat chocolate
ist das sicher | ist das nicht sicher
what happened in 2023 | what happened in 2024
what happened on 3 May | what happened on 3 June
who won on monday | who won on tuesday
the weather today | the weather tomorrow
convert 10 miles | convert 100 miles
convert 1.5 miles | convert 15 miles
convert ten miles | convert twenty miles
10 km in miles | 10 km in metres
is 5% enough | is 5$ enough
2 + 2 | 2 - 2
what is C++ | what is C#
vitamin c dose | vitamin d dose
what does `git push` do | what does `git pull` do
what does "over" mean | what does "under" mean
meaning of 'ship' | meaning of 'shop'
what is foo_bar | what is foo_baz
read /etc/passwd | read /etc/shadow
mail a@example.com | mail b@example.com
version 1.2.3 | version 1.2.4
capital of France | capital of Spain
Paris weather | London weather
Who was Ada Lovelace? | Who was Grace Hopper?
Was Obama born in Kenya? | Was Obama born in Hawaii?
population of the UK | population of the US
flights from paris to london | flights from london to paris
flights from paris | flights to paris
does the dog bite the man | does the man bite the dog
install the driver | uninstall the driver
import a file as csv in this tool | export a file as csv from this tool
increase the limit for me | please decrease the limit
is this legal | is this illegal
turn the wifi on | turn the wifi off
before the meal | after the meal
buy the share | sell the share
highest mountain | lowest mountain
first president | last president
a or b | a and b
all users | some users
duties of an employer | duties of an employee
his age | her age
when did it start | where did it start
the fall of 1989 | the fall of 1999
translate it to french | translate it to german
sulfate uses | sulfite uses
"""

ONE = """
How do I reset my password? | how can I reset my password
How do I reset my password? | Hi, please tell me how to reset my password!
resetting a password | reset the password
What is the capital of France? | what's the capital of france
Tell me the capital of France | What is the capital of France?
Explain photosynthesis. | Please explain photosynthesis to me
what does "ship" mean | please tell me what "ship" means
price of AAPL | What is the price of AAPL?
what are good ways to cook rice | how should I prepare rice
I don't know how this works | I do not know how that works
"""


def pairs(table: str) -> list[list[str]]:
    return [line.split(" | ") for line in table.strip().splitlines()]


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
