from __future__ import annotations

import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import ids
from lib.ids import is_uuid, prefixed, uuid7

MANY = 2000


def test_uuid7_is_a_valid_rfc_9562_version_7() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid.UUID(uuid7()) for _ in range(MANY)]
    after = time.time_ns() // 1_000_000
    for value in made:
        assert value.version == 7
        assert value.variant == uuid.RFC_4122
        assert before <= value.int >> 80 <= after


def test_uuid7_text_is_the_canonical_lower_case_form() -> None:
    for _ in range(MANY):
        text = uuid7()
        assert str(uuid.UUID(text)) == text and is_uuid(text)


def test_ids_never_repeat_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_800_000_000_123_000_000)
    assert len({uuid7() for _ in range(50_000)}) == 50_000


def test_every_random_bit_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    ones, zeros = 0, (1 << 128) - 1
    for _ in range(500):
        value = uuid.UUID(uuid7()).int
        ones, zeros = ones | value, zeros & value
    random_bits = (0xFFF << 64) | ((1 << 62) - 1)
    assert ones & random_bits == random_bits
    assert zeros & random_bits == 0


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2, max_size=20, unique=True))
def test_ids_sort_by_the_time_they_were_made(milliseconds: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def made_at(moment: int) -> tuple[str, str]:
            patch.setattr(ids.time, "time_ns", lambda: moment * 1_000_000 + 999_999)
            return uuid7(), prefixed("ten")

        made = [made_at(moment) for moment in sorted(milliseconds)]
    assert [pair[0] for pair in made] == sorted(pair[0] for pair in made)
    assert [pair[1] for pair in made] == sorted(pair[1] for pair in made)


def test_prefixed_ids_are_crockford_and_of_one_length() -> None:
    form = re.compile(r"key_[0-7][0-9a-hjkmnp-tv-z]{25}\Z")
    made = {prefixed("key") for _ in range(MANY)}
    assert len(made) == MANY
    assert all(form.match(text) for text in made)


@given(st.uuids())
def test_is_uuid_takes_any_uuid_in_either_case(value: uuid.UUID) -> None:
    assert is_uuid(str(value)) and is_uuid(str(value).upper())


@given(st.text(alphabet="0123456789abcdefABCDEF-{}\n ٣ａ", max_size=40))
def test_is_uuid_takes_nothing_else(text: str) -> None:
    canonical = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text.lower(), re.ASCII)
    assert is_uuid(text) == (canonical is not None)


@pytest.mark.parametrize("ending", ["\n", " ", "\0", "0"])
def test_is_uuid_allows_nothing_after_it(ending: str) -> None:
    assert not is_uuid(uuid7() + ending)
    assert not is_uuid(ending + uuid7())
