"""Plain paths are compiled without the parser: as it would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmespath.parser import Parser

from providers.adapters.manifest.expression import Expression

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=6))
def test_a_path_is_what_the_parser_makes_of_it(names: list[str]) -> None:
    path = ".".join(names)
    assert Expression.parse(path).compiled.parsed == Parser().parse(path).parsed


@pytest.mark.parametrize("path", ["a.b", "true", "a_1.null._", "A.B.c"])
def test_it_finds_what_the_parsers_finds(path: str) -> None:
    document = {"a": {"b": 1}, "true": 2, "a_1": {"null": {"_": 3}}, "A": {"B": None}}
    assert Expression.parse(path).search(document) == Parser().parse(path).search(document)
