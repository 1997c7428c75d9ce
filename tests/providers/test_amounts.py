"""What a call may use at most is at least what any provider would count."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from providers import amounts
from providers.call import Call, Upload, Usage
from providers.operations import Kind, registry
from providers.operations.models import same_vectors

TEXTS = st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=20)


def test_every_operation_of_models_but_two_has_a_most() -> None:
    named = {each.name for each in registry().values() if each.kind is not Kind.DATA}
    assert named - {"chat.completions", "embeddings"} == set(amounts.OF)


@hypothesis.given(st.text(min_size=1, max_size=80), TEXTS)
def test_a_rank_reads_its_query_with_each_document(query: str, documents: list[str]) -> None:
    most = amounts.of_rerank(Call("rerank", {"query": query, "documents": documents}))
    by_bytes = sum(len((query + each).encode("utf-8", "replace")) for each in documents)
    assert most.input_tokens >= by_bytes
    assert most.units >= -(-len(documents) // 100)


@pytest.mark.parametrize(
    ("documents", "size", "searches"), [(1, 1, 1), (100, 100, 1), (101, 100, 2), (100, 600, 2)]
)
def test_searches_are_counted_as_cohere_does(documents: int, size: int, searches: int) -> None:
    params = {"query": "q", "documents": ["x" * size] * documents}
    assert amounts.of_rerank(Call("rerank", params)).units == searches


@pytest.mark.parametrize(
    ("params", "units"),
    [
        ({}, 1),
        ({"size": "auto"}, 1),
        ({"size": "1024x1024", "n": 3}, 3),
        ({"size": "1792x1024"}, 2),
        ({"size": "256x256", "n": None}, 1),
        ({"quality": "hd"}, 2),
        ({"size": "1792x1024", "quality": "hd"}, 3),
    ],
)
def test_images_by_the_megapixel(params: dict[str, object], units: int) -> None:
    most = amounts.of_images(Call("image.generations", {"prompt": "x", **params}))
    assert most.units == units
    assert most.output_tokens >= 6240 * (params.get("n") or 1)  # type: ignore[operator]


def test_recordings_by_the_second() -> None:
    file = Upload("a", "audio/wav", bytes(16_001), 0)
    call = Call("audio.transcriptions", {}, file=file)
    assert amounts.likely_seconds(call) == 2
    assert amounts.of_transcriptions(call).units == 33
    assert amounts.of_speech(Call("audio.speech", {"input": "Züri"})) == Usage(units=4)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("text-embedding-3-small", "openai/text-embedding-3-small", True),
        ("BAAI/bge-m3", "bge-m3", True),
        ("text-embedding-3-small", "text-embedding-3-large", False),
        ("voyage-3.5", "voyage-3.5-lite", False),
    ],
)
def test_whose_vectors_can_be_compared(one: str, other: str, same: bool) -> None:
    assert same_vectors(one, other) is same_vectors(other, one) is same
