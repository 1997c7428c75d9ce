from __future__ import annotations

import re
import secrets
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenants.keys import PATTERN, Mode, digest, generate, parse

BASE62 = string.digits + string.ascii_letters
PEPPER = b"p" * 32
modes = st.sampled_from(Mode)


@given(modes)
def test_a_generated_key_parses_as_itself(mode: Mode) -> None:
    made = generate(mode)
    assert parse(made.text) == made
    assert made.text.startswith(f"pb_{mode}_{made.public_id}_")
    assert re.fullmatch(PATTERN, made.text)
    assert len(made.text) == 8 + 12 + 1 + 36


def test_keys_do_not_repeat_and_use_the_whole_alphabet() -> None:
    made = [generate(Mode.LIVE) for _ in range(2000)]
    assert len({key.text for key in made}) == len({key.public_id for key in made}) == 2000
    assert set("".join(key.text[21:51] for key in made)) == set(BASE62)


def test_keys_come_from_the_systems_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = secrets.choice
    monkeypatch.setattr(secrets, "choice", lambda pool: drawn.append(len(pool)) or real(pool))
    generate(Mode.TEST)
    assert drawn == [62] * 42


@given(st.text())
@example("")
@example("pb_live_")
@example("pb_live_000000000000_" + "0" * 36)
def test_junk_never_parses(text: str) -> None:
    assert parse(text) is None


@given(st.from_regex(PATTERN, fullmatch=True))
@settings(max_examples=150)
def test_what_only_looks_like_a_key_fails_its_checksum(text: str) -> None:
    assert parse(text) is None


@given(st.data())
@settings(max_examples=200)
def test_any_one_changed_character_is_noticed(data: st.DataObject) -> None:
    text = generate(data.draw(modes)).text
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.one_of(st.sampled_from(BASE62 + "_- "), st.characters()))
    if other == text[place]:
        other = "A" if other != "A" else "B"  # keys are drawn anew each time: nothing to filter by
    assert parse(text[:place] + other + text[place + 1 :]) is None


def test_every_single_substitution_of_one_key_is_noticed() -> None:
    text = generate(Mode.LIVE).text
    for place in range(len(text)):
        for other in BASE62:
            if other != text[place]:
                assert parse(text[:place] + other + text[place + 1 :]) is None


@given(st.integers(0, 55), st.integers(0, 55))
def test_swapped_characters_are_noticed(one: int, two: int) -> None:
    characters = list(generate(Mode.LIVE).text)
    if characters[one] != characters[two]:
        characters[one], characters[two] = characters[two], characters[one]
        assert parse("".join(characters)) is None


@pytest.mark.parametrize("junk", [" ", "\n", "\r\n", "\0", "x", "=", "é"])
def test_nothing_may_stand_around_a_key(junk: str) -> None:
    text = generate(Mode.LIVE).text
    for around in (junk + text, text + junk, text[:30] + junk + text[30:]):
        assert parse(around) is None


def test_letters_are_not_interchangeable_with_their_other_case_or_width() -> None:
    text = generate(Mode.LIVE).text
    assert parse(text.swapcase()) is None
    wide = text[:-1] + chr(ord(text[-1]) + 0xFEE0)
    assert parse(wide) is None


def test_a_test_key_cannot_be_passed_off_as_a_live_one() -> None:
    text = generate(Mode.TEST).text
    assert parse(text.replace("_test_", "_live_", 1)) is None


def test_the_digest_depends_on_every_part_and_on_the_pepper() -> None:
    made = generate(Mode.LIVE)
    one = digest(made.text, PEPPER)
    assert re.fullmatch(r"[0-9a-f]{64}", one)
    assert one == digest(made.text, PEPPER)
    assert one != digest(made.text, b"q" * 32)
    assert one != digest(generate(Mode.LIVE).text, PEPPER)
    assert made.text[-10:] not in one


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_has_a_digest(text: str) -> None:
    assert len(digest(text, PEPPER)) == 64
