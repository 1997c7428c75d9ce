"""The shipped catalogue: every file is right, every example maps, every error rule is shown."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import meta

from lib.money import to_micro
from providers.adapter import StreamFault
from providers.adapters.manifest import Manifest, ManifestAdapter, ManifestOperation
from providers.adapters.manifest.errors import Reply, Rule, first_match
from providers.adapters.manifest.stepping import SteppedMeter
from providers.call import Call, Further, Outcome, Upstream
from providers.catalogue import (
    CatalogueError,
    CatalogueFile,
    Example,
    catalogue_schema,
    load_documents,
    load_examples,
    read_document,
)
from providers.catalogue.examples import FOLDER as EXAMPLES
from providers.catalogue.examples import Serve
from providers.dialects import adapter_for
from providers.operations import registry
from tests.providers.exchanges import request_of, taken_apart
from tests.shipped import FILES

Judge = Callable[[int, Mapping[str, str], bytes], Outcome]
DATA = [file for file in FILES if file.manifest]
AI = [file for file in FILES if not file.manifest]
WITH_ONE_PROVIDER = {
    "medical.drug_adverse_events",
    "medical.drug_recalls",
    "nutrition.barcode",
    "space.apod",
    "space.near_earth_objects",
}
"""Operations without a second provider: stale answers are all there is to fall back to."""


def manifest_of(file: CatalogueFile) -> Manifest:
    assert file.manifest
    return file.manifest


def outcome_of(file: CatalogueFile, example: Example) -> Outcome:
    headers = {**example.headers, "content-type": example.content_type}
    return judge_of(file, example)(example.status, headers, example.body(example.params))


def judge_of(file: CatalogueFile, example: Example) -> Judge:
    """An earlier step's own rules come first."""
    manifest = manifest_of(file)
    upstream = Upstream(file.slug, manifest.base_url)
    return request_of(manifest, example, upstream).judge or ManifestAdapter(manifest).outcome


def plan_of(file: CatalogueFile, example: Example) -> ManifestOperation:
    return manifest_of(file).operations[example.operation]


def seen(file: CatalogueFile, example: Example, **call: Any) -> dict[str, Any]:
    """What an example comes to, in the words of its `expect`."""
    outcome = outcome_of(file, example)
    made = Call(example.operation, dict(example.params), **call)
    try:
        if outcome.is_answer:
            answer = taken_apart(manifest_of(file), example, made, outcome)
            if isinstance(answer, Further) or example.step:
                return {"verdict": outcome.verdict, **gives(file, example, outcome)}
            total = answer.page["total"] if answer.page else None
            found = {"verdict": outcome.verdict, "data": answer.data}
            if answer.page and answer.page["next_cursor"]:
                found["next"] = answer.page["next_cursor"]
            return found if total is None else {**found, "total": total}
    except StreamFault as fault:
        outcome = fault.outcome
    told = {
        "verdict": outcome.verdict,
        "message": outcome.message,
        "retry_after": outcome.retry_after,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def gives(file: CatalogueFile, example: Example, outcome: Outcome) -> dict[str, Any]:
    manifest, plan = manifest_of(file), plan_of(file, example)
    (step,) = (step for step in plan.earlier if step.name == example.step)
    call = Call(example.operation, dict(example.params))
    meter = ManifestAdapter(manifest).meter(call, Upstream(file.slug, manifest.base_url))
    assert isinstance(meter, SteppedMeter)
    given = meter.given_by(step, outcome)
    return {"gives": given} if given else {}


def test_the_schema_is_one() -> None:
    meta.validate(catalogue_schema())


def test_every_operation_has_interchangeable_providers() -> None:
    served = Counter(operation for file in FILES for operation in file.operations)
    assert set(served) == set(registry())
    assert {operation for operation, count in served.items() if count < 2} <= WITH_ONE_PROVIDER
    assert len(DATA) >= 10
    keyless = Counter(
        op for file in DATA if file.enabled and not file.needs_credential for op in file.operations
    )
    assert {op for op, count in keyless.items() if count >= 2} >= {
        "finance.fx_rate",
        "weather.current",
        "medical.drug_label",
        "geo.geocode",
    }


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.slug)
def test_a_data_provider_is_whole(file: CatalogueFile) -> None:
    assert file.adapter == "manifest"
    document = file.document
    assert document["base_url"].startswith("https://")
    assert document["attribution"]
    assert document["errors"]
    assert document["cache"]["ttl"] > 0
    assert {"limits", "verification", "docs_url"} <= set(document)
    assert bool(file.credential_env) == (document["auth"]["type"] != "none")


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.slug)
def test_the_examples_listed_are_the_examples_there(file: CatalogueFile) -> None:
    listed = Counter(
        (name, operation)
        for operation, plan in manifest_of(file).operations.items()
        for name in plan.examples
    )
    there = Counter((example.name, example.operation) for example in load_examples(file.slug))
    assert listed == there
    defaults = Counter(
        (e.operation, e.step) for e in load_examples(file.slug) if e.serve is Serve.DEFAULT
    )
    plans = manifest_of(file).operations.items()
    steps = [(operation, step) for operation, plan in plans for step, _ in plan.requests]
    assert defaults == dict.fromkeys(steps, 1)


def test_no_example_is_without_a_provider() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {file.slug for file in DATA}


@pytest.mark.unmeasured
@pytest.mark.parametrize("file", DATA, ids=lambda file: file.slug)
class TestExamples:
    def test_they_come_to_what_they_say(self, file: CatalogueFile) -> None:
        examples = load_examples(file.slug)
        found = {example.name: seen(file, example) for example in examples}
        assert found == {example.name: example.expect for example in examples}

    def test_their_requests_are_ours(self, file: CatalogueFile) -> None:
        manifest = manifest_of(file)
        upstream = Upstream(file.slug, manifest.base_url)
        for example in load_examples(file.slug):
            operation = registry()[example.operation]
            assert operation.request_validator.is_valid(example.params), example.name
            request = request_of(manifest, example, upstream)
            told = (request.method, request.url, request.body)
            url = manifest.base_url + example.url
            assert told == (example.method, url, example.sent_bytes), example.name

    def test_their_requests_can_be_read_back(self, file: CatalogueFile) -> None:
        plans = manifest_of(file).operations
        for example in load_examples(file.slug):
            fitting = [
                (name, step)
                for name, plan in plans.items()
                for step, request in plan.requests
                if not request.link
                and request.recover(example.method, example.url, example.sent_bytes or b"")
                is not None
            ]
            is_link = dict(plan_of(file, example).requests)[example.step].link
            if is_link:
                assert fitting == [], example.name
            elif example.step:  # two operations may begin alike
                assert (example.operation, example.step) in fitting, example.name
            else:
                assert fitting == [(example.operation, "")], example.name

    def test_their_answers_are_canonical_with_extras_too(self, file: CatalogueFile) -> None:
        for example in load_examples(file.slug):
            if example.step:
                continue
            data = seen(file, example, include_extra=True).get("data", [])
            operation = registry()[example.operation]
            for item in data if operation.is_list else [data] * bool(data):
                assert operation.takes(item), example.name
                assert item.get("extra") is not None, example.name


def rules_reached(file: CatalogueFile, example: Example) -> list[Rule]:
    """Those that judge the example's answer: a step's own before the manifest's, and the
    operation's where these found no failure."""
    manifest, plan = manifest_of(file), plan_of(file, example)
    headers = {**example.headers, "content-type": example.content_type}
    outcome = outcome_of(file, example)
    empty = example.body(example.params) in (b"", b"null")
    reply = Reply(example.status, headers, outcome.document, empty)
    steps = [rule for step in plan.earlier if step.name == example.step for rule in step.rules]
    reached = [first_match([*steps, *manifest.rules], reply)]
    if outcome.is_answer and not example.step:
        document = [outcome.document] if plan.each else outcome.document
        reached.append(first_match(plan.rules, Reply(example.status, {}, document)))
    return [rule for rule in reached if rule]


@pytest.mark.parametrize("file", DATA, ids=lambda file: file.slug)
def test_every_error_rule_is_reached_by_an_example(file: CatalogueFile) -> None:
    manifest = manifest_of(file)
    reached = [
        id(rule) for example in load_examples(file.slug) for rule in rules_reached(file, example)
    ]
    there = {f"errors.{place}": rule for place, rule in enumerate(manifest.rules)}
    for name, plan in manifest.operations.items():
        there |= {f"{name}.errors.{place}": rule for place, rule in enumerate(plan.rules)}
        for step in plan.earlier:
            own = enumerate(step.rules)
            there |= {f"{name}.steps.{step.name}.errors.{place}": rule for place, rule in own}
    assert [place for place, rule in there.items() if id(rule) not in reached] == []


def test_a_default_example_echoes_whatever_is_asked() -> None:
    file = next(file for file in DATA if file.slug == "frankfurter")
    example = next(e for e in load_examples("frankfurter") if e.serve is Serve.DEFAULT)
    params = {"base": 'A"\\', "quote": "NOK"}
    outcome = ManifestAdapter(manifest_of(file)).outcome(200, {}, example.body(params))
    assert outcome.document["base"] == params["base"]
    assert outcome.document["rates"] == {"NOK": 11.0235}


@pytest.mark.parametrize("file", AI, ids=lambda file: file.slug)
def test_an_ai_provider_is_whole(file: CatalogueFile) -> None:
    ids = [model["id"] for model in file.models]
    assert len(ids) == len(set(ids)) > 0
    for model in file.models:
        if "usd_per_thousand_units" in model:
            assert "input_usd_per_million" not in model, "billed by the unit or by the token"
            assert to_micro(model["usd_per_thousand_units"]) > 0
            continue
        assert to_micro(model["input_usd_per_million"]) >= 0
        assert to_micro(model["output_usd_per_million"]) >= 0
        cached = to_micro(model.get("cached_input_usd_per_million", "0"))
        assert cached <= to_micro(model["input_usd_per_million"])
        assert model.get("max_output", 1) <= model.get("context", 1)
        is_chat = model["operation"] == "chat.completions"
        assert ("streaming" in model["capabilities"]) == is_chat
    assert file.document["base_url"].startswith("https://") or file.slug == "ollama"


OPENAI = [file for file in AI if file.adapter == "openai"]
HI = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("file", OPENAI, ids=lambda file: file.slug)
def test_a_compatible_service_is_spoken_to_by_its_file_alone(file: CatalogueFile) -> None:
    settings = file.document.get("settings", {})
    base, model = file.document["base_url"], file.models[0]["id"]
    upstream = Upstream(file.slug, base, model, secret="a-secret", settings=settings)
    request = adapter_for("openai").request(Call("chat.completions", dict(HI)), upstream)
    assert request.url.startswith(base + "/")
    assert request.url.partition("?")[0].endswith("/chat/completions")
    assert "a-secret" not in request.url
    assert [n for n, value in request.headers.items() if "a-secret" in value] == [
        "api-key" if file.slug == "azure-openai" else "authorization"
    ]


def test_claude_is_asked_for_schemas_and_bills_what_its_cache_writes() -> None:
    served = {"anthropic": 7, "bedrock": 3}
    for file in AI:
        models = [model for model in file.models if "claude" in model["id"]]
        for model in models if file.slug in served else ():
            assert "json_schema" in model["capabilities"]
            fresh, written = model["input_usd_per_million"], model["cache_write_usd_per_million"]
            assert 4 * to_micro(written) == 5 * to_micro(fresh)
        assert len(models) >= served.get(file.slug, 0)


def test_there_are_many_compatible_services() -> None:
    assert len(OPENAI) >= 15


def test_azure_is_called_by_its_deployments() -> None:
    (file,) = [file for file in OPENAI if file.slug == "azure-openai"]
    base = "https://mine.openai.azure.com"
    upstream = Upstream("azure-openai", base, "my gpt", settings=file.document["settings"])
    for operation, path in (("chat.completions", "chat/completions"), ("embeddings", "embeddings")):
        call = Call(operation, {**HI, "input": "x"} if operation == "embeddings" else dict(HI))
        assert adapter_for("openai").request(call, upstream).url == (
            f"{base}/openai/deployments/my%20gpt/{path}?api-version=2024-10-21"
        )


@pytest.mark.parametrize(
    "env",
    [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "GROQ_API_KEY",
        "MISTRAL_API_KEY",
        "COHERE_API_KEY",
        "OPENROUTER_API_KEY",
        "HF_TOKEN",
    ],
)
def test_the_promised_environment_variables_enable_a_provider(env: str) -> None:
    assert [file for file in AI if file.credential_env == env]


def test_ollama_is_found_by_its_url() -> None:
    (ollama,) = [file for file in AI if file.document.get("base_url_env") == "OLLAMA_BASE_URL"]
    assert not ollama.needs_credential


def test_one_environment_variable_belongs_to_one_provider() -> None:
    credentials = [file.document.get("credential", {}) for file in FILES]
    parts = [part for each in credentials for part in (each, *each.get("parts", {}).values())]
    names = [part["env"] for part in parts if "env" in part]
    assert len(names) == len(set(names))


def test_shapes_are_anchored() -> None:
    for file in FILES:
        credential = file.document.get("credential", {})
        for part in (credential, *credential.get("parts", {}).values()):
            shape = part.get("shape", "^$")
            assert re.fullmatch(r"\^.*\$", shape)
            assert not re.match(shape, "your-api-key-here")


def test_the_checksum_is_of_the_content(tmp_path: Path) -> None:
    source = FILES[0].path.read_text("utf-8")
    copy = tmp_path / FILES[0].path.name
    copy.write_text("# a comment\n" + source, "utf-8")
    assert read_document(copy).checksum == FILES[0].checksum
    copy.write_text(source.replace("name: ", "name: New ", 1), "utf-8")
    assert read_document(copy).checksum != FILES[0].checksum


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [\nb", 2, "No YAML"),
        ("- a", 1, "mapping"),
        ("", 1, "mapping"),
        ("a: 1\nb: 2\na: 3", 3, "twice"),
        ("a: {b: 1, b: 2}", 1, "twice"),
        ("adapter: magic", 1, "adapter"),
        ("adapter: manifest\nslug: 5", 2, "slug"),
        ("a: 1\nb:\n  - {c: 1, c: 2}", 3, "twice"),
        ("a: !!python/object:os.system {}", 1, "No YAML"),
        ("a: &a [*a]", 1, "itself"),
    ],
)
def test_a_broken_file_is_told_with_its_line(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    with pytest.raises(CatalogueError) as caught:
        load_documents(tmp_path)
    told = [fault for fault in caught.value.faults if words in fault]
    assert told[0].startswith(f"x.yaml:{line}: ")


def test_a_fault_inside_a_manifest_is_told_with_its_line(tmp_path: Path) -> None:
    source = next(file for file in DATA if file.slug == "frankfurter").path.read_text("utf-8")
    broken = source.replace("rate: {path: rates,", "rate: {path: 'rates[',")
    (tmp_path / "frankfurter.yaml").write_text(broken, "utf-8")
    line = broken[: broken.index("rates[")].count("\n") + 1
    with pytest.raises(CatalogueError, match=rf"frankfurter\.yaml:{line}: operations"):
        load_documents(tmp_path)


def test_a_fault_inside_a_list_is_told_with_its_line(tmp_path: Path) -> None:
    source = next(file for file in DATA if file.slug == "frankfurter").path.read_text("utf-8")
    broken = source.replace("as: invalid_request", "as: bad_luck")
    (tmp_path / "frankfurter.yaml").write_text(broken, "utf-8")
    line = broken[: broken.index("bad_luck")].count("\n") + 1
    with pytest.raises(CatalogueError, match=rf"frankfurter\.yaml:{line}: errors\.1\.as"):
        load_documents(tmp_path)


def test_a_file_must_be_named_as_its_slug(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(FILES[0].path.read_text("utf-8"), "utf-8")
    with pytest.raises(CatalogueError, match="slug: Is not the file's name"):
        load_documents(tmp_path)


def test_days_and_norway_are_texts(tmp_path: Path) -> None:
    from providers.catalogue.located import read_yaml

    assert read_yaml("day: 2026-01-15\nland: no\nyes: true").document == {
        "day": "2026-01-15",
        "land": "no",
        "yes": True,
    }


def test_an_example_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_examples("frankfurter")[0].status = 500  # type: ignore[misc]
