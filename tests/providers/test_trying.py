"""Trying a definition out: what is shown, what is sent where, and what never leaves."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from lib.problems import InvalidRequest, NotFound, RateLimited
from providers.adapter import Unsupported
from providers.catalogue import (
    CatalogueFile,
    example_of,
    load_examples,
    parse_document,
    read_document,
)
from providers.catalogue.documents import FOLDER
from providers.catalogue.examples import Serve
from providers.definition_models import Check, Drift
from providers.definitions import template
from providers.models import Provider
from providers.trials import SHOWN
from providers.trying import MAX_TOKENS, Question, try_example, try_live, try_sandbox
from tests.providers.definitions import (
    DRIFTED,
    GOOD,
    Upstream,
    house_secret,
    keyed,
    rates,
    replying,
)

pytestmark = pytest.mark.django_db
FX, PAIR = "finance.fx_rate", {"base": "EUR", "quote": "USD"}
SECRET = "sk-very-secret/0123456789+="
EXAMPLES = [example_of(document) for document in rates()[1]]


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with replying() as upstream:
        yield upstream


@pytest.fixture
def upstream(server: Upstream) -> Upstream:
    server.status, server.body, server.headers = 200, GOOD, {}
    server.asked.clear()
    return server


def definition(base_url: str = "", auth: str = "") -> CatalogueFile:
    document, _ = rates(base_url=base_url)
    document = keyed(document) if auth else document
    if auth not in ("", "query"):
        document = document.replace("type: query, name: apikey", f"type: {auth}")
    return parse_document(document, Path("my-rates.yaml"))


def provider_at(url: str) -> Provider:
    provider: Provider = Provider.objects.create(
        slug="my-rates", adapter="manifest", base_url=url, allow_private_network=True,
        manifest=dict(definition(url, "query").document),
    )  # fmt: skip
    house_secret(provider, SECRET)
    return provider


def test_an_example_is_answered_and_nothing_sent() -> None:
    trial = try_example(Question(definition(auth="query"), FX, PAIR), EXAMPLES[0])
    told = trial.as_document()
    assert told["request"]["url"] == (
        f"https://api.example.com/v1/latest?base=EUR&symbols=USD&apikey={SHOWN}"
    )
    assert told["canonical"]["data"]["rate"] == "1.0823"
    assert (told["milliseconds"], told["response"]["status"]) == (None, 200)
    assert not Check.objects.exists()


def test_the_sandbox_answers_by_the_definitions_own_examples() -> None:
    question = Question(definition(auth="query"), FX, {"base": "SEK", "quote": "NOK"})
    trial = try_sandbox(question, EXAMPLES)
    assert trial.came.data["base"] == "SEK" and trial.came.data["quote"] == "NOK"
    nothing = try_sandbox(Question(definition(), FX, {"base": "EUR", "quote": "XQX"}), EXAMPLES)
    assert (nothing.status, nothing.came.verdict) == (404, "not_found")
    assert try_sandbox(question, []).status == 404


@pytest.mark.parametrize("slug", ["met-museum", "nws", "accuweather", "spotify"])
def test_the_sandbox_answers_every_step_and_takes_any_token(slug: str) -> None:
    file = read_document(FOLDER / f"{slug}.yaml")
    examples = load_examples(slug)
    for example in examples:
        if example.serve is Serve.DEFAULT and not example.step:
            trial = try_sandbox(Question(file, example.operation, example.params), examples)
            assert trial.came.verdict == example.expect["verdict"], trial


def test_every_step_is_asked_live(upstream: Upstream) -> None:
    file = read_document(FOLDER / "nws.yaml")
    examples = load_examples("nws")
    example = next(e for e in examples if e.serve is Serve.DEFAULT and not e.step)
    base_url = file.document["base_url"]
    text = file.text.replace(f"base_url: {base_url}", f"base_url: {upstream.url}")
    local = parse_document(text, Path("nws.yaml"))
    provider = Provider.objects.create(
        slug="nws", adapter="manifest", base_url=upstream.url, allow_private_network=True
    )
    first = next(e for e in examples if e.step and e.serve is Serve.DEFAULT)
    upstream.body = first.body(example.params).replace(base_url.encode(), upstream.url.encode())
    question = Question(local, example.operation, example.params)
    trial = try_live(question, provider=provider, by="ann")
    assert len(upstream.asked) > 1, "what the first answer leads to was asked too"
    assert trial.status == 200 and Check.objects.count() == 1


def test_what_needs_a_token_is_not_tried_live(upstream: Upstream) -> None:
    file = read_document(FOLDER / "spotify.yaml")
    (operation, *_) = file.operations
    example = next(e for e in load_examples("spotify") if e.operation == operation)
    with pytest.raises(NotFound, match="wants a token"):
        try_live(Question(file, operation, example.params), provider=None, by="ann", secret="x")


def test_an_ai_providers_part_needs_the_running_sandbox(upstream: Upstream, settings: Any) -> None:
    document, _ = template("ai", "lab")
    file = parse_document(document, Path("lab.yaml"))
    question = Question(file, "chat.completions", {"messages": [{"role": "user", "content": "x"}]})
    with pytest.raises(InvalidRequest, match="SANDBOX_URL"):
        try_sandbox(question, [])
    settings.ENV = settings.ENV.model_copy(update={"SANDBOX_URL": upstream.url})
    upstream.body = template("ai", "lab")[1][0]["response"]["body"]
    trial = try_sandbox(question, [])
    assert trial.came.text == "Hello."
    assert upstream.asked[0][0] == "POST /lab/v1/chat/completions"
    assert orjson.loads(trial.request.body or b"")["max_tokens"] == MAX_TOKENS


@pytest.mark.parametrize(
    ("operation", "params", "words"),
    [
        ("finance.quote", {"symbol": "A"}, "serves finance.fx_rate"),
        ("nothing", {}, "serves finance.fx_rate"),
        (FX, {}, "does not fit"),
        (FX, {"base": 7, "quote": "USD"}, "base"),
        (FX, {**PAIR, "surprise": 1}, "surprise"),
    ],
)
def test_a_call_that_the_operation_does_not_take_is_refused(
    operation: str, params: Any, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Question(definition(), operation, params)


def test_a_parameter_the_provider_cannot_be_told_is_refused() -> None:
    with pytest.raises(Unsupported):
        try_sandbox(Question(definition(), FX, {**PAIR, "date": "2026-01-15"}), EXAMPLES)


@pytest.mark.parametrize("auth", ["query", "bearer", "basic"])
def test_a_live_call_is_counted_and_its_secret_shown_nowhere(upstream: Upstream, auth: str) -> None:
    provider = provider_at(upstream.url)
    forms = [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode()]
    upstream.status, upstream.body = 404, {"error": f"you sent {' '.join(forms)}"}
    question = Question(definition(upstream.url, auth), FX, PAIR, {"headers": {"x-who": "us"}})
    trial = try_live(question, provider=provider, by="ann")
    line, headers = upstream.asked[0]
    assert any(form in line + str(headers) for form in forms), "it was sent"
    assert headers["x-who"] == "us"
    shown = orjson.dumps(trial.as_document()).decode()
    assert not any(form in shown for form in forms)
    assert trial.raw.count("[secret]") == 3 and trial.came.message.startswith("you sent")
    assert (SHOWN in trial.request.url) is (auth == "query")
    check = Check.objects.get()
    assert (check.kind, check.by, check.verdict) == ("trial", "ann", "not_found")


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/v1", "http://127.0.0.1:1", "https://127.0.0.1.evil.example",
     "http://localhost:{port}"],
)  # fmt: skip
def test_a_secret_never_goes_where_a_draft_says(upstream: Upstream, elsewhere: str) -> None:
    provider = provider_at(upstream.url)
    url = elsewhere.format(port=upstream.url.rpartition(":")[2])
    with pytest.raises(InvalidRequest, match="leads elsewhere"):
        try_live(Question(definition(url, "query"), FX, PAIR), provider=provider, by="ann")
    assert upstream.asked == [] and not Check.objects.exists()


def test_a_draft_without_a_secret_is_not_tried_live(upstream: Upstream) -> None:
    question = Question(definition(upstream.url, "query"), FX, PAIR)
    with pytest.raises(InvalidRequest, match="needs a credential"):
        try_live(question, provider=None, by="ann")
    assert upstream.asked == []


def test_a_draft_reaches_no_private_address(upstream: Upstream) -> None:
    """No provider yet, so none that was allowed to."""
    trial = try_live(Question(definition(upstream.url), FX, PAIR), provider=None, by="ann")
    assert (trial.came.verdict, trial.status) == ("unreachable", 0)
    assert upstream.asked == []


def test_trials_are_bounded_and_tell_no_drift(upstream: Upstream, settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"VERIFY_CALLS_PER_HOUR": 1})
    provider, upstream.body = provider_at(upstream.url), DRIFTED
    question = Question(definition(upstream.url), FX, PAIR)
    assert try_live(question, provider=provider, by="ann").came.drifted
    assert not Drift.objects.exists(), "a draft may well be wrong itself"
    with pytest.raises(RateLimited):
        try_live(question, provider=provider, by="ann")
    assert len(upstream.asked) == 1


def test_a_long_answer_is_cut_for_showing(upstream: Upstream) -> None:
    upstream.body = b'"' + b"x" * 1_000_000 + b'"'
    provider = provider_at(upstream.url)
    trial = try_live(Question(definition(upstream.url), FX, PAIR), provider=provider, by="ann")
    assert len(trial.raw) == 16 * 1024 and trial.came.verdict == "bad_payload"
