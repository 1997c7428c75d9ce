"""What is found of a definition before it may be in force: its text, and that its examples pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from providers.catalogue import read_examples
from providers.catalogue.examples import FOLDER
from providers.definitions import template
from providers.proving import prove
from tests.providers.definitions import rates
from tests.shipped import FILES


def told(document: str, examples: Any, slug: str = "my-rates") -> list[str]:
    return [str(line) for line in prove(slug, document, examples).faults]


@pytest.mark.parametrize("kind", ["rest", "ai"])
@pytest.mark.parametrize("slug", ["x", "my-provider", "9lives"])
def test_a_template_holds_whatever_its_slug(kind: str, slug: str) -> None:
    document, examples = template(kind, slug)
    proof = prove(slug, document, examples)
    assert proof.holds, proof.faults
    assert any(each.came and each.came.verdict == "ok" for each in proof.results)


@pytest.mark.unmeasured
def test_all_that_ships_holds() -> None:
    for file in FILES:
        if file.manifest:
            proof = prove(file.slug, file.text, read_examples(FOLDER / file.slug))
            assert proof.holds, proof.faults


def test_a_fault_is_told_with_its_line() -> None:
    document, examples = rates(path="'rates['")
    line = document[: document.index("'rates['")].count("\n") + 1
    assert told(document, examples) == [
        f"my-rates.yaml:{line}: operations.finance.fx_rate.map.rate.path: "
        "no JMESPath: Invalid jmespath expression: Incomplete expression:."
    ]


def test_no_fault_gives_orders_to_a_terminal() -> None:
    document, examples = rates()
    faults = told(document + '"a\\e[2Jb": 1\n', examples)
    assert len(faults) == 1 and "a?[2Jb: Unknown" in faults[0]


def test_a_mapping_that_finds_something_else_does_not_hold() -> None:
    document, examples = rates(path="wrong")
    faults = told(document, examples)
    assert len(faults) == 2
    assert faults[0].startswith("examples/my-rates/latest.json:1: Comes to something else")
    assert "bad_payload" in faults[0] and "no canonical answer: rate" in faults[0]
    assert "finance.fx_rate has no example that is answered and maps" in faults[1]


def changed(**parts: Any) -> list[Any]:
    """The template's examples, of which the first says something else."""
    _, examples = rates()
    examples = copy.deepcopy(examples)
    examples[0] |= parts
    return examples


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "has no example that is answered"),
        ("none", "Must be a list"),
        ({}, "Must be a list"),
        ([7], "0: Must be object"),
        ([{}] * 101, "100 examples at most"),
        (changed(name="../../etc/passwd"), "0/name: Must match the pattern"),
        (changed(operation="finance.quote"), "does not serve finance.quote"),
        (changed(operation="x.y"), "does not serve x.y"),
        (changed(params={"base": "EUR"}), "are not what finance.fx_rate takes"),
        (changed(params={"base": "EUR", "quote": "USD", "date": "2026-01-01"}), "cannot be made"),
        (changed(request={"method": "GET", "url": "/other"}), "`request` is GET https://"),
        (changed(expect={"verdict": "ok", "total": 3}), "`total` is null"),
        (changed(expect={"verdict": "empty"}), "`verdict` is"),
        (changed(name="other"), "Is listed for finance.fx_rate and is not there"),
        (changed(name="other"), "Is not listed"),
        (changed(name="not-found"), "two of this name"),
        (changed(response={"status": 200}), "0/response/body: This is required"),
        (changed(serve="default", params={"a": "x" * 600_000}), "more than 512 KiB"),
    ],
)
def test_examples_that_do_not_show_it(examples: Any, words: str) -> None:
    assert any(words in line for line in told(rates()[0], examples)), told(rates()[0], examples)


def test_a_deep_example_is_refused_and_not_followed() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "nested too deeply" in told(rates()[0], changed(params={"a": deep}))[0]


def test_the_definition_of_another_provider_is_none_of_this_one() -> None:
    document, examples = rates()
    assert "slug: Is not the file's name, others" in told(document, examples, "others")[0]


def test_an_ai_provider_needs_an_example_of_each_operation() -> None:
    document, examples = template("ai", "lab")
    more = document + "  - {id: vectors, operation: embeddings, capabilities: []}\n"
    faults = [str(line) for line in prove("lab", more, examples).faults]
    assert len(faults) == 1 and "embeddings has no example" in faults[0]
    examples[0]["expect"]["text"] = "Goodbye."
    assert any(
        '`text` is "Hello."' in str(line) for line in prove("lab", document, examples).faults
    )
