"""Invalidation by tag: at once, whatever was under way, and within bounds."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from cache.entry import Entry
from cache.tags import Stamps, TagIds
from tests.cache.entries import entry

BODY = entry()
IDS = [bytes([number]) * 16 for number in range(4)]


def made(stamps: Stamps, *tags: int) -> Entry:
    return dataclasses.replace(BODY, made=stamps.moment, tags=tuple(IDS[tag] for tag in tags))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.sets(st.integers(0, 3))),
        st.tuples(st.just("invalidate"), st.sets(st.integers(0, 3), min_size=1)),
        st.tuples(st.just("all"), st.just(frozenset())),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([1, 2, 100]))
def test_an_entry_is_valid_until_one_of_its_tags_is_invalidated(
    taken: list[tuple[str, set[int]]], most: int
) -> None:
    """With too little room to remember every tag, others may be invalid too, but never fewer."""
    stamps = Stamps(most)
    kept: list[tuple[Entry, set[int], bool]] = []
    for step, tags in taken:
        if step == "make":
            kept.append((made(stamps, *tags), tags, True))
        elif step == "invalidate":
            stamps.invalidate([IDS[tag] for tag in tags])
            kept = [(one, own, valid and not own & tags) for one, own, valid in kept]
        else:
            stamps.invalidate_all()
            kept = [(one, own, False) for one, own, _ in kept]
        for one, _, valid in kept:
            assert stamps.valid(one) == valid if most == 100 else stamps.valid(one) <= valid
        assert len(stamps._stamps) <= most


def test_an_answer_that_was_asked_for_before_comes_too_late() -> None:
    stamps = Stamps()
    before = made(stamps, 1)
    stamps.invalidate([IDS[1]])
    assert not stamps.valid(before)
    assert stamps.valid(made(stamps, 1))


def test_who_asked_before_an_invalidation_may_have_what_was_asked_for_then() -> None:
    stamps = Stamps()
    one, early = made(stamps, 1), stamps.moment
    stamps.invalidate([IDS[1]])
    assert stamps.valid_for(one, early)
    assert not stamps.valid_for(one, stamps.moment)
    assert stamps.valid_for(dataclasses.replace(one, tags=(IDS[2],)), stamps.moment)
    stamps.invalidate([IDS[1]])  # which hides when it was invalidated first
    assert not stamps.valid_for(one, stamps.moment - 1)


def test_one_of_the_same_tags_has_one_id_and_tells_nothing() -> None:
    ids = TagIds(b"secret")
    one, two = ids.of(["symbol:AAPL", "provider:lab", "symbol:AAPL"])
    assert {len(one), len(two)} == {16}
    assert ids.of(["provider:lab", "symbol:AAPL"]) == (one, two)
    assert any(each is one for each in ids.of(["symbol:AAPL"]) + ids.of(["provider:lab"]))
    assert b"AAPL" not in one + two
    assert TagIds(b"another").of(["symbol:AAPL"]) != ids.of(["symbol:AAPL"])


def test_ids_are_remembered_within_bounds() -> None:
    ids = TagIds(b"secret")
    first = ids.of(["tag:0"])
    for number in range(60_000):
        ids.of([f"tag:{number}"])
    assert len(ids._known) <= 50_000
    assert ids.of(["tag:0"]) == first
