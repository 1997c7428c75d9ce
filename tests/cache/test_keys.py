"""Equal questions have one key, and no two different ones, whoever spells them how."""

from __future__ import annotations

import itertools
import json
import random
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cache.keys import Keys, Place, canonical

KEYS = Keys(b"secret")
PLACE = Place(7, "live", "chat.completions", route="fast")

numbers = st.one_of(
    st.integers(-(2**53), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
documents = st.dictionaries(st.text(max_size=4), values, max_size=4)


def spelled(value: Any, chance: random.Random) -> str:
    """JSON for `value` in one of its many spellings."""
    space = chance.choice(["", " ", "\n"])
    if isinstance(value, dict):
        members = list(value.items())
        chance.shuffle(members)
        return (
            "{"
            + ",".join(
                f"{space}{spelled(name, chance)}:{space}{spelled(each, chance)}"
                for name, each in members
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + f",{space}".join(spelled(each, chance) for each in value) + "]"
    if isinstance(value, str):
        escaped = "".join(
            "".join(f"\\u{unit:04x}" for unit in _units(letter))
            if chance.random() < 0.5
            else json.dumps(letter, ensure_ascii=False)[1:-1]
            for letter in value
        )
        return f'"{escaped}"'
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return chance.choice([str(value), f"{value}.0", f"{value}e0", f"{value}.000E+00"])
    return json.dumps(value)


def _units(letter: str) -> list[int]:
    data = letter.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def plain(value: Any) -> Any:
    """What a JSON value is: numbers by their value, all else with its type."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return (type(value).__name__, value)
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, list):
        return ("list", tuple(map(plain, value)))
    return ("object", frozenset((name, plain(each)) for name, each in value.items()))


@given(documents, st.integers())
def test_one_value_has_one_key_however_it_is_spelled(document: dict[str, Any], seed: int) -> None:
    read = orjson.loads(spelled(document, random.Random(seed)))
    assert KEYS.key(PLACE, read) == KEYS.key(PLACE, document)


@given(documents, documents)
@example({}, {"": -9.223372036854778e18})
@example({"": -(2**63)}, {"": -float(2**63) - 2048})
def test_different_values_have_different_keys(one: dict[str, Any], two: dict[str, Any]) -> None:
    assume(plain(one) != plain(two))
    one.pop("stream", None)
    two.pop("stream", None)
    assume(plain(one) != plain(two))
    assert KEYS.key(PLACE, one) != KEYS.key(PLACE, two)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_unicode_forms_are_different_text(form: str) -> None:
    text = "ﬁancé Å"
    other = unicodedata.normalize(form, text)
    assert (canonical("x", {"q": text}) == canonical("x", {"q": other})) == (text == other)


def test_how_an_answer_is_delivered_does_not_count() -> None:
    asked = {"model": "fast", "messages": [{"role": "user", "content": "hi"}]}
    whole = KEYS.key(PLACE, asked)
    assert KEYS.key(PLACE, asked | {"stream": True}) == whole
    assert KEYS.key(PLACE, asked | {"stream_options": {"include_usage": True}}) == whole
    assert KEYS.key(PLACE, asked | {"user": "x"}) != whole
    inside = {"messages": [{"stream": True}]}
    assert KEYS.key(PLACE, inside) != KEYS.key(PLACE, {"messages": [{}]})
    data = PLACE._replace(operation="weather.current")
    assert KEYS.key(data, {"stream": True}) != KEYS.key(data, {})


def test_every_part_of_a_place_counts() -> None:
    other = Place(
        8, "test", "embeddings", "v2", "smart", "c1", "lab", False, ("cred_1",), True, "merge/3"
    )
    places = [PLACE._replace(**{name: getattr(other, name)}) for name in Place._fields]
    assert len({KEYS.key(place, {}) for place in [PLACE, *places]}) == len(places) + 1
    assert Keys(b"another").key(PLACE, {}) != KEYS.key(PLACE, {})


def test_nothing_passes_from_one_part_to_the_next() -> None:
    words = ["", "a", "b", "ab", "a\0b", "\0", "1", "live"]
    places = [
        Place(1, "live", operation, "v1", route, "", provider, True, own)
        for operation, route, provider in itertools.product(words, repeat=3)
        for own in [(), ("",), ("a",), ("a", "b"), ("ab",), ("b", "a")]
    ]
    assert len({KEYS.key(place, {}) for place in places}) == len(places)
    assert KEYS.key(Place(None, "live", "x"), {}) != KEYS.key(Place(0, "live", "x"), {})


def test_what_a_tenants_own_credential_is_given_is_never_for_everybody() -> None:
    with pytest.raises(ValueError, match="not for everybody"):
        KEYS.key(PLACE._replace(tenant_id=None, own=("cred_1",)), {})


def test_places_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.keys.MOST_PLACES", 3)
    keys = Keys(b"secret")
    for number in range(10):
        place = Place(number, "live", "x")
        assert keys.key(place, {"a": 1}) == KEYS.key(place, {"a": 1.0})
    assert len(keys._places) <= 3
