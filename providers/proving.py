"""Whether a definition keeps its word: its text is right, and each of its examples comes to what
it says. What is asked of one before it may be activated, and what `manage.py provider test` shows.

Both text and examples may be anybody's, so both are bounded before they are looked into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import yaml
from jsonschema_rs import Draft202012Validator

from lib.problems import Problem
from providers.call import Verdict
from providers.catalogue import (
    CatalogueError,
    CatalogueFile,
    Example,
    Line,
    example_of,
    parse_document,
)
from providers.catalogue.documents import FOLDER
from providers.catalogue.located import read_yaml
from providers.operations import registry
from providers.operations.checking import faults, pointer
from providers.trials import Came, call_of, of_example, request_of_example, upstream_of

MAX_EXAMPLES: Final = 100
MAX_EXAMPLE_BYTES: Final = 512 * 1024  # of all of them


@dataclass(frozen=True, slots=True)
class Result:
    """One example: what it came to, and what is wrong with that ("" where nothing is)."""

    example: Example
    came: Came | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What there is to say of a definition. `file` is None where the text has faults."""

    file: CatalogueFile | None
    faults: tuple[Line, ...]
    results: tuple[Result, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.faults

    def example(self, name: str) -> Example | None:
        return next((each.example for each in self.results if each.example.name == name), None)


def prove(slug: str, text: str, examples: Any) -> Proof:
    """Everything that is wrong with the definition of that provider, or nothing. `examples` are
    documents as `read_examples` gives them."""
    try:
        file = parse_document(text, Path(f"{slug}.yaml"))
    except CatalogueError as error:
        return Proof(None, tuple(error.lines))
    found = list(_shape(slug, examples))
    if found:
        return Proof(file, tuple(found))
    results = tuple(_run(file, example_of(document)) for document in examples)
    lines = [Line(_path(slug, each.example.name), 1, each.fault) for each in results if each.fault]
    return Proof(file, (*lines, *_missing(file, results)), results)


def _path(slug: str, name: str) -> str:
    return f"examples/{slug}/{name}.json"


def _shape(slug: str, examples: Any) -> Iterator[Line]:
    folder = f"examples/{slug}"
    if not isinstance(examples, list) or len(examples) > MAX_EXAMPLES:
        yield Line(folder, 1, f"Must be a list of {MAX_EXAMPLES} examples at most.")
        return
    try:
        size = len(orjson.dumps(examples))
    except TypeError:
        yield Line(folder, 1, "Is nested too deeply, or holds what JSON has no form for.")
        return
    if size > MAX_EXAMPLE_BYTES:
        yield Line(folder, 1, f"Has more than {MAX_EXAMPLE_BYTES // 1024} KiB in all.")
        return
    names: Counter[str] = Counter()
    for index, document in enumerate(examples):
        if not _validator().is_valid(document):
            for words, place in faults(_validator(), document):
                yield Line(folder, 1, f"{index}{pointer(place)}: {words}")
        else:
            names[document["name"]] += 1
    for name in (name for name, count in names.items() if count > 1):
        yield Line(_path(slug, name), 1, "There are two of this name.")


def _run(file: CatalogueFile, example: Example) -> Result:
    operation = registry().get(example.operation)
    if operation is None or example.operation not in file.operations:
        return Result(example, None, f"The provider does not serve {example.operation}.")
    upstream = upstream_of(file, example.operation, secret=None)
    call = call_of(example.operation, example.params, upstream)
    if not operation.request_validator.is_valid(call.params):
        return Result(example, None, f"`params` are not what {example.operation} takes.")
    try:
        request = request_of_example(file, example, call, upstream)
        wanted = (example.method, upstream.base_url + example.url)
        if (request.method, request.url) != wanted:
            return Result(example, None, f"`request` is {request.method} {request.url}.")
        came = of_example(file, example, call, upstream)
    except Problem as problem:
        return Result(example, None, f"The request cannot be made: {problem.detail}")
    return Result(example, came, _difference(example.expect, came.told()))


def _difference(expect: Any, told: dict[str, Any]) -> str:
    """Only what is expected is compared. Values are the author's own, and may be told."""
    wrong = [name for name in expect if told.get(name) != expect[name]]
    if not wrong:
        return ""
    if "verdict" in wrong and "message" in told:
        wrong.append("message")  # says why
    parts = [f"`{name}` is {_shown(told.get(name))}" for name in wrong]
    return f"Comes to something else than `expect`: {'; '.join(parts)}."


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 300 else text[:299] + "…"


def _missing(file: CatalogueFile, results: Sequence[Result]) -> Iterator[Line]:
    """An operation without an example that is answered, and what is listed and not there."""
    there = {(each.example.operation, each.example.name) for each in results}
    good = {
        each.example.operation
        for each in results
        if not each.fault and not each.example.step and each.example.expect["verdict"] == Verdict.OK
    }
    located = read_yaml(file.text)
    for operation in sorted(set(file.operations) - good):
        words = f"{operation} has no example that is answered and maps. Add one."
        yield Line(file.path.name, located.line(("operations", operation)), words)
    listed = set(_listed(file))
    for operation, name in sorted(listed - there):
        yield Line(_path(file.slug, name), 1, f"Is listed for {operation} and is not there.")
    for operation, name in sorted((there - listed) if file.manifest else ()):
        words = f"Is not listed among the examples of {operation}."
        yield Line(_path(file.slug, name), 1, words)


def _listed(file: CatalogueFile) -> Iterator[tuple[str, str]]:
    for operation, plan in file.manifest.operations.items() if file.manifest else ():
        for name in plan.examples:
            yield operation, name


@cache
def _validator() -> Draft202012Validator:
    text = (FOLDER / "schemas" / "example.yaml").read_text("utf-8")
    return Draft202012Validator(yaml.load(text, yaml.CSafeLoader))
