"""The first level: bounded in bytes that are really there, and the hot set stays."""

from __future__ import annotations

import gc
import itertools
import random
import time
import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.entry import Entry, Origin
from cache.memory import Memory
from providers.call import Usage
from tests.cache.entries import entry


def sized(size: int, **more: object) -> Entry:
    return entry(random.randbytes(size), **more)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def filled(count: int, memory: Memory, size: int, tags: int) -> int:
    """Bytes of this process that so many distinct answers take."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        own = tuple(random.randbytes(16) for _ in range(tags))
        headers = (("etag", f'"{number:020}"'), ("date", f"{number:029}"))
        origin = Origin(f"lab{number}", f"m{number}", f"{number}", number, 9, 9, Usage(number, 500))
        one = entry(random.randbytes(size), tags=own, headers=headers, origin=origin)
        memory.put(key(number), one)
        assert memory.size <= memory.limit
    gc.collect()
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return took


@pytest.mark.parametrize(("size", "count"), [(10, 1500), (900, 1500), (20_000, 200)])
def test_what_it_says_it_holds_is_what_it_takes(size: int, count: int) -> None:
    memory = Memory(1 << 30)
    took = filled(count, memory, size, 5)
    assert took <= memory.size <= 1.3 * took
    assert len(memory) == count


def test_however_many_distinct_answers_come_it_stays_within_its_bound(is_long: bool) -> None:
    count = 1_000_000 if is_long else 6_000
    memory = Memory(4 << 20)
    took = filled(count, memory, 300, 2)
    assert took <= memory.limit
    assert memory.evicted == count - len(memory)
    assert memory.size > memory.limit * 0.9


@given(
    st.lists(st.tuples(st.sampled_from("gpd"), st.integers(0, 5), st.integers(1, 900)), max_size=60)
)
def test_it_keeps_what_was_used_last(steps: list[tuple[str, int, int]]) -> None:
    memory, model = Memory(20_000), OrderedDict[int, Entry]()
    for step, number, size in steps:
        if step == "g":
            assert memory.get(key(number)) is model.get(number)
            if number in model:
                model.move_to_end(number)
            continue
        memory.drop(key(number))
        model.pop(number, None)
        if step == "p":
            one = sized(size)
            memory.put(key(number), one)
            if one.size * 8 <= 20_000:
                model[number] = one
        while sum(each.size for each in model.values()) > 20_000:
            model.popitem(last=False)
        assert memory.size == sum(each.size for each in model.values())
        assert len(memory) == len(model)


def test_what_is_too_large_pushes_nothing_out_and_leaves_no_old_one() -> None:
    memory = Memory(80_000)
    memory.put(key(1), sized(100))
    memory.put(key(2), sized(100))
    memory.put(key(2), sized(20_000))
    assert memory.get(key(1)) and memory.get(key(2)) is None
    memory.clear()
    assert (len(memory), memory.size, memory.evicted) == (0, 0, 0)


def test_the_hot_set_stays_on_a_zipf_trace() -> None:
    """Within 5 % of an ideal LRU of as many entries as fit, over entries of unequal size."""
    chance = random.Random(7)
    names = 3000
    weights = list(itertools.accumulate(1 / rank for rank in range(1, names + 1)))
    trace = chance.choices(range(names), cum_weights=weights, k=20_000)
    entries = [sized(chance.randrange(100, 3000)) for _ in range(names)]
    memory = Memory(sum(each.size for each in entries) // 10)
    ideal, places, hits, ideal_hits = OrderedDict[int, None](), names // 10, 0, 0
    for name in trace:
        if memory.get(key(name)):
            hits += 1
        else:
            memory.put(key(name), entries[name])
        if name in ideal:
            ideal_hits += 1
            ideal.move_to_end(name)
        else:
            ideal[name] = None
            if len(ideal) > places:
                ideal.popitem(last=False)
    assert hits >= 0.95 * ideal_hits > 5000


def test_a_get_takes_two_microseconds_at_most() -> None:
    memory = Memory(1 << 30)
    keys = [key(number) for number in range(1000)]
    one = sized(100)
    for each in keys:
        memory.put(each, one)
    best = 1.0
    for _ in range(20):
        begun = time.thread_time()
        for each in keys:
            memory.get(each)
        best = min(best, (time.thread_time() - begun) / len(keys))
    assert best < 2e-6
