"""The index of questions: the nearest is found, within a bound that holds."""

from __future__ import annotations

import base64
import gc
import math
import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.semantic import (
    LONGEST,
    MOST_ON_SHELF,
    Index,
    Vector,
    similarity,
    split,
    vector_of,
)

SHELF = (b"s" * 32, "lab/emb/64")
CHANCE = random.Random(7)


def some(size: int = 64) -> Vector:
    made = vector_of([CHANCE.gauss(0, 1) for _ in range(size)])
    assert made is not None
    return made


def near_to(vector: Vector, cosine: float) -> Vector:
    other = some(len(vector))
    along = similarity(vector, other)
    beside = [b - along * a for a, b in zip(vector, other, strict=True)]
    scale = math.sqrt(1 - cosine * cosine) / math.hypot(*beside)
    made = vector_of([cosine * a + scale * b for a, b in zip(vector, beside, strict=True)])
    assert made is not None
    return made


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize("size", [64, 1536])
def test_the_nearest_of_many_is_found_with_its_cosine(size: int) -> None:
    index, mean = Index(64 << 20), some(size)
    kept = [near_to(mean, 0.6) for _ in range(300 if size > 64 else MOST_ON_SHELF)]
    for number, vector in enumerate(kept):
        index.add(SHELF, vector, "how is it", key(number))
    for number in range(0, len(kept), 50):
        found = index.near(SHELF, near_to(kept[number], 0.96), "how is it", 0.9)
        assert found[0].key == key(number)
        assert math.isclose(found[0].similarity, 0.96, abs_tol=1e-4)
    assert index.near(SHELF, near_to(kept[0], 0.96), "how is it not", 0.9) == []
    assert index.near(SHELF, near_to(kept[0], 0.8), "how is it", 0.9) == []
    assert index.near((b"another", SHELF[1]), kept[0], "how is it", 0.9) == []


def test_it_takes_what_it_says_and_no_more_than_it_may() -> None:
    texts = ["how is it " * 30 + str(number) for number in range(3000)]
    vectors = [some(256) for _ in range(1000)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    index = Index(1 << 30)
    for number in range(1000):
        shelf = (key(number % 50), f"lab/emb/{number % 50}")
        index.add(shelf, vector_of(vectors[number]) or some(), f"{texts[number]}!", key(number))
    gc.collect()
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert took <= index.size <= 1.5 * took
    bounded = Index(200_000)
    for number in range(3000):
        shelf = (key(number % 7), "s")
        bounded.add(shelf, vectors[number % 1000], texts[number], key(number))
        assert bounded.size <= bounded.limit
    assert 50 < len(bounded) < 200
    assert bounded.near((key(2999 % 7), "s"), vectors[999], texts[2999], 0.99)
    bounded.add(SHELF, some(MOST_ON_SHELF * 50 // 64), "x", key(1))
    bounded.clear()
    assert bounded.size == len(bounded) == 0


def test_a_shelf_holds_so_many_and_the_first_to_come_goes_first() -> None:
    index = Index(64 << 20)
    vectors = [some(16) for _ in range(MOST_ON_SHELF + 1)]
    for number, vector in enumerate(vectors):
        index.add(SHELF, vector, "x", key(number))
    assert len(index) == MOST_ON_SHELF
    assert key(0) not in [near.key for near in index.near(SHELF, vectors[0], "x", 0.999)]
    assert index.near(SHELF, vectors[1], "x", 0.999)[0].key == key(1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), max_size=40))
def test_what_is_added_and_dropped_leaves_nothing_behind(
    steps: list[tuple[int, int, bool]],
) -> None:
    index, vector = Index(1 << 20), some(8)
    for shelf, number, adds in steps:
        where = (key(shelf), "s")
        index.add(where, vector, "x" * number, key(number)) if adds else index.drop(
            where, key(number)
        )
    for shelf in range(4):
        for number in range(6):
            index.drop((key(shelf), "s"), key(number))
    assert index.size == len(index) == 0


def test_a_question_too_large_for_the_bound_is_not_kept() -> None:
    index = Index(2000)
    index.add(SHELF, some(1536), "x", key(1))
    assert index.size == len(index) == 0


@pytest.mark.parametrize(
    "encoded",
    [
        *(None, 5, {}, [], "", "AAA=", "!", "é", [None], ["1"], [1e39], [math.nan], [0.0, 0.0]),
        base64.b64encode(struct.pack("<2f", math.inf, 1)).decode(),
        base64.b64encode(bytes(4 * 10_000)).decode(),
        [1.0] * 10_000,
        [[1.0]],
    ],
)
def test_what_is_no_vector_is_none(encoded: Any) -> None:
    assert vector_of(encoded) is None


def test_a_vector_in_either_form_is_of_length_one() -> None:
    packed = base64.b64encode(struct.pack("<2f", 3, 4)).decode()
    for encoded in (packed, [3, 4], [3.0, 4.0]):
        made = vector_of(encoded)
        assert made is not None
        assert made.tolist() == pytest.approx([0.6, 0.8])
    assert similarity(some(4), some(5)) == -1.0


def asked(content: Any, **last: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": content, **last}]
    return {"model": "m", "messages": messages, "seed": 1}


def test_a_request_is_its_question_and_the_rest() -> None:
    params = asked("why?", name="ann")
    assert split(params) == (asked("", name="ann"), "why?")
    assert params == asked("why?", name="ann")
    assert split(asked([{"type": "text", "text": "why?"}])) == (asked([""]), "why?")


@pytest.mark.parametrize(
    "params",
    [
        asked(""),
        asked(" \n\t"),
        asked(None),
        asked("x" * (LONGEST + 1)),
        asked("北京"),
        asked("why?", role="assistant"),
        asked("why?", role="tool", tool_call_id="1"),
        asked([]),
        asked([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        asked([{"type": "image_url", "image_url": {"url": "x"}}]),
        asked([{"type": "text", "text": "a", "cache_control": {}}]),
    ],
)
def test_what_is_no_question_in_words_is_not_compared(params: dict[str, Any]) -> None:
    assert split(params) is None
