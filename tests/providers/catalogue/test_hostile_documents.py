"""A definition is anybody's text until it is read: whatever it holds, it is refused in words."""

from __future__ import annotations

import time
from pathlib import Path

import jmespath
import pytest

from providers.adapters.manifest.expression import Expression, ExpressionError
from providers.adapters.manifest.growth import MAX_GROWTH, growth
from providers.catalogue import CatalogueError, parse_document
from providers.catalogue.located import YamlError, read_yaml
from tests.shipped import FILES

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)
)
SELF = "a: &a {b: [*a, *a]}"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 100_000,
        "a: " + "[" * 500 + "]" * 500,
        "a: " + "{b: " * 900,
        "a:\n  " + "- " * 20_000 + "x",
        "\n".join(" " * depth + "a:" for depth in range(300)),
        LAUGHS,
        SELF,
        "? [a, b]\n: 1",
        "? {a: 1}\n: 2",
        "a: !!python/object/apply:os.system ['true']",
        "a: \x07",
        "a: \ud800",
    ],
    ids=range(12),
)
def test_a_text_that_would_hang_or_kill_is_refused_at_once(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    assert caught.value.line >= 1
    assert time.perf_counter() - begun < 2


def test_aliases_that_save_typing_are_taken() -> None:
    text = "a: &a {b: {c: 1}}\nd: *a\ne: {<<: *a, f: 2}"
    assert read_yaml(text).document == {
        "a": {"b": {"c": 1}},
        "d": {"b": {"c": 1}},
        "e": {"b": {"c": 1}, "f": 2},
    }


@pytest.mark.parametrize(
    "odd", [".nan", ".inf", "!!binary aGk=", "!!set {a}", '"a\\0b"', "2026-01-01T00:00:00Z"]
)
def test_what_json_has_no_form_for_is_no_definition(odd: str) -> None:
    file = next(file for file in FILES if file.slug == "frankfurter")
    text = file.text.replace("name: Frankfurter", f"name: {odd}")
    try:
        parsed = parse_document(text, Path("frankfurter.yaml"))
    except CatalogueError as error:
        assert error.faults[0].startswith("frankfurter.yaml:")
    else:
        assert isinstance(parsed.document["name"], str) and "\0" not in parsed.document["name"]


def test_a_text_is_bounded() -> None:
    with pytest.raises(CatalogueError, match="more than"):
        parse_document("a: " + "x" * 200_000, Path("x.yaml"))


@pytest.mark.parametrize(
    "expression",
    [
        "[@,@][]|" * 9 + "@",
        "[@,@][]." * 9 + "[@,@][]",
        "{a:@,b:@}.*|" * 9 + "@",
        "map(&[@,@,@][], " * 7 + "@" + ")" * 7,
        "`[" + ",".join("1" * 240) + "]`[].[@,@]",
        "map(&map(&map(&@,`[1,2,3,4,5,6,7,8]`),`[1,2,3,4,5,6,7,8]`),`[1,2,3,4,5,6,7,8]`)",
    ],
)
def test_an_expression_that_multiplies_what_it_reads_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError, match="copies"):
        Expression.parse(expression)


def test_an_expression_makes_no_more_than_it_says() -> None:
    """The bound is one: what each of these really makes of a list is never more."""
    document = list(range(5))
    for expression in ("[@,@][]", "[@,@][].[@,@][]", "[@,@][]|[@,@,@][]", "map(&[@,@], @)[]",
                       "@[][]", "[*]", "[@[0], @[1]]"):  # fmt: skip
        made = jmespath.search(expression, document)
        assert len(made) <= growth(jmespath.compile(expression).parsed) * len(document)


def test_every_shipped_expression_is_far_below_the_bound() -> None:
    assert len(FILES) > 100  # they were compiled, so none was refused
    assert MAX_GROWTH < 1000


def test_a_pattern_for_secrets_is_short() -> None:
    file = next(file for file in FILES if file.slug == "finnhub")
    assert "shape" in file.text
    shape = file.document["credential"]["shape"]
    text = file.text.replace(shape, "^" + "(a+)+" * 50 + "$")
    with pytest.raises(CatalogueError, match=r"credential\.shape: Must have at most 200"):
        parse_document(text, Path("finnhub.yaml"))
