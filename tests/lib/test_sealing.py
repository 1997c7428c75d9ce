from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.sealing import Ring, SealBroken, key_id

OLD, NEW = "old-" + "o" * 32, "new-" + "n" * 32
ring = Ring([OLD])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(texts, texts)
@settings(max_examples=50)
def test_what_was_sealed_opens_for_its_owner(secret: str, owner: str) -> None:
    assert ring.open(ring.seal(secret, owner), owner) == secret


@given(texts, texts)
@settings(max_examples=50)
def test_it_opens_for_nobody_else(owner: str, other: str) -> None:
    sealed = ring.seal("sk-secret", owner)
    if owner != other:
        with pytest.raises(SealBroken):
            ring.open(sealed, other)


def test_the_owner_cannot_be_forged_by_where_the_text_is_cut() -> None:
    sealed = ring.seal('b","c', "a")
    for owner in ('a","b', "a:", 'a"', ""):
        with pytest.raises(SealBroken):
            ring.open(sealed, owner)


def test_the_sealed_text_shows_neither_secret_nor_owner() -> None:
    sealed = ring.seal("sk-very-secret", "credential:crd_1:house")
    plain = base64.urlsafe_b64decode(sealed.partition(":")[2])
    assert "very-secret" not in sealed and b"very-secret" not in plain and b"crd_1" not in plain
    assert sealed != ring.seal("sk-very-secret", "credential:crd_1:house")


@given(st.data())
@settings(max_examples=150)
def test_any_changed_character_breaks_the_seal(data: st.DataObject) -> None:
    sealed = ring.seal("sk-secret", "owner")
    start = sealed.index(":") + 1
    # The padding's unused bits aside, every character carries something.
    place = data.draw(st.integers(start, len(sealed) - 4))
    other = data.draw(st.sampled_from("ABCxyz019-_ é:").filter(lambda c: c != sealed[place]))
    with pytest.raises(SealBroken):
        ring.open(sealed[:place] + other + sealed[place + 1 :], "owner")


@given(st.text(max_size=80))
@settings(max_examples=100)
def test_junk_never_opens(text: str) -> None:
    with pytest.raises(SealBroken):
        ring.open(text, "owner")


def test_a_new_key_in_front_seals_and_the_old_one_still_opens() -> None:
    before = ring.seal("sk-1", "a")
    both = Ring([NEW, OLD])
    after = both.seal("sk-1", "a")
    assert both.open(before, "a") == both.open(after, "a") == "sk-1"
    assert not both.is_current(before) and both.is_current(after)
    assert Ring([NEW]).open(after, "a") == "sk-1"


def test_a_key_that_left_the_ring_opens_nothing() -> None:
    with pytest.raises(SealBroken) as broken:
        Ring([NEW]).open(ring.seal("sk-canary", "a"), "a")
    assert "canary" not in str(broken.value) and broken.value.__suppress_context__


def test_a_key_id_names_the_key_and_tells_nothing() -> None:
    assert key_id(OLD) == key_id(OLD) != key_id(NEW)
    assert len(key_id(OLD)) == 8 and int(key_id(OLD), 16) >= 0


@pytest.mark.parametrize("keys", [[], [""], ["x" * 31], ["x" * 32, "short"]])
def test_weak_rings_are_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="32 characters"):
        Ring(keys)
