"""Whatever a provider answers, its manifest makes canonical data of it or one of our outcomes: no
exception of any other kind, and nothing of a wrong type. `--long`: a thousand answers each."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
import pytest

from providers.adapter import StreamFault
from providers.adapters.manifest import ManifestAdapter
from providers.call import Answer, Call, Further, Outcome, Upstream, Verdict
from providers.catalogue import CatalogueFile, Example, load_examples
from providers.operations import registry
from tests.providers.catalogue.mutations import Mutant, mutants
from tests.providers.exchanges import request_of, taken_apart
from tests.shipped import FILES

DATA = [file for file in FILES if file.manifest]
MANY, FEW = 1000, 20
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
seen: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def told(is_long: bool) -> Iterator[None]:
    """The totals, of the long form."""
    yield
    if is_long:
        print(f"\n{seen.total():,} mutated answers of {len(DATA)} manifests: {dict(seen)}")


Judged = tuple[Example, Callable[[int, Mapping[str, str], bytes], Outcome], Iterator[Mutant]]


def prepared(file: CatalogueFile, example: Example) -> Judged:
    assert file.manifest
    request = request_of(file.manifest, example, Upstream(file.slug, file.manifest.base_url))
    headers = {**example.headers, "content-type": example.content_type}
    body = example.body(example.params)
    seed = f"{file.slug}/{example.name}"
    judge = request.judge or ManifestAdapter(file.manifest).outcome
    return example, judge, mutants(example.status, headers, body, seed)


@pytest.mark.unmeasured
@pytest.mark.parametrize("file", DATA, ids=lambda file: file.slug)
def test_every_answer_comes_to_data_or_to_an_outcome(file: CatalogueFile, is_long: bool) -> None:
    each = [prepared(file, example) for example in load_examples(file.slug)]
    for example, judge, answers in itertools.islice(
        itertools.cycle(each), MANY if is_long else FEW
    ):
        mutant = next(answers)
        outcome = judge(*mutant)
        verdict = come_to(file, example, outcome)
        seen[verdict] += 1


def come_to(file: CatalogueFile, example: Example, outcome: Outcome) -> Verdict:
    """How it ended, once that was found to be in order."""
    assert file.manifest
    check_outcome(file, outcome)
    if not outcome.is_answer:
        return outcome.verdict
    call = Call(example.operation, dict(example.params), include_extra=len(example.name) % 2 == 0)
    try:
        answer = taken_apart(file.manifest, example, call, outcome)
    except StreamFault as fault:
        check_outcome(file, fault.outcome)
        assert fault.outcome.verdict is not Verdict.OK
        return fault.outcome.verdict
    if isinstance(answer, Further):
        for request in answer.requests:
            assert request.url.startswith(file.manifest.base_url)
            assert request.url.isascii() and request.url.isprintable() and " " not in request.url
        return Verdict.OK
    check_answer(answer, example.operation)
    return Verdict.OK if answer.data else Verdict.EMPTY


def check_outcome(file: CatalogueFile, outcome: Outcome) -> None:
    assert file.manifest
    assert outcome.verdict in Verdict
    assert not UNPRINTABLE.search(outcome.message) and len(outcome.message) <= 300
    wait = outcome.retry_after
    assert wait is None or (math.isfinite(wait) and 0 <= wait <= 86_400)
    if not outcome.is_answer:
        assert ManifestAdapter(file.manifest).problem(outcome).status >= 400


def check_answer(answer: Answer, name: str) -> None:
    """It is canonical as the client reads it, not only as it was made."""
    operation = registry()[name]
    data: Any = orjson.loads(orjson.dumps(answer.data))
    assert isinstance(data, list) is operation.is_list
    for item in data if operation.is_list else [data]:
        assert operation.takes(item), item
    page = answer.page or {}
    total, following = page.get("total"), page.get("next_cursor")
    assert total is None or (type(total) is int and 0 <= total < 2**53)
    assert following is None or isinstance(following, str)
