"""Every data provider of the catalogue, called through its manifest, answers its examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import httpx2
import pytest

from providers import oauth2
from providers.adapter import StreamFault
from providers.adapters.manifest import Manifest, ManifestAdapter
from providers.call import Call, Further, Grant, Outcome, Upstream, UpstreamRequest, Verdict
from providers.catalogue import Example, load_examples
from providers.catalogue.examples import Serve
from providers.sandbox.server import SandboxServer
from providers.secret_form import parts_of
from tests import shipped
from tests.providers.exchanges import request_of

CLIENT = httpx2.Client(verify=False)  # to read the CAs takes ten times as long as a call
FILES = {file.slug: file for file in shipped.FILES if file.manifest}
SERVED = [
    pytest.param(slug, example, id=f"{slug}-{example.name}")
    for slug in FILES
    for example in load_examples(slug)
    if example.serve is not Serve.FAULT
]


def called(
    sandbox: SandboxServer, slug: str, operation: str, params: Any, **sent: Any
) -> tuple[Outcome, httpx2.Response]:
    """One call as the gateway makes it. `sent`: `secret`, `fault`."""
    manifest = FILES[slug].manifest
    assert manifest
    adapter = ManifestAdapter(manifest)
    upstream = played(sandbox, manifest, sent.get("secret", "sk-test"))
    request = adapter.request(Call(operation, dict(params)), upstream)
    answer = asked(request, {"x-sandbox-fault": f} if (f := sent.get("fault")) else {})
    judge = request.judge or adapter.outcome
    return judge(answer.status_code, answer.headers, answer.content), answer


def played(sandbox: SandboxServer, manifest: Manifest, secret: str | None = "sk-test") -> Upstream:
    adapter, path = ManifestAdapter(manifest), httpx2.URL(manifest.base_url).path.rstrip("/")
    whole = secret and adapter.secret_form.of_the_sandbox(secret)
    base_url = f"{sandbox.url}/{manifest.slug}{path}"
    upstream = Upstream(manifest.slug, base_url, secret=whole, parts=parts_of(whole or ""))
    if adapter.grant and secret:
        token = given(sandbox, manifest.slug, adapter.grant, upstream)
        upstream = replace(upstream, token=token)
    return upstream


def asked(request: UpstreamRequest, more: Mapping[str, str] = MappingProxyType({})) -> Any:
    return CLIENT.request(
        request.method, request.url, headers={**request.headers, **more}, content=request.body
    )


def given(sandbox: SandboxServer, slug: str, grant: Grant, upstream: Upstream) -> str:
    """A token, or "none" where there is none to be had."""
    url = f"{sandbox.url}/{slug}{httpx2.URL(grant.url).path}"
    request = oauth2.request_of(grant._replace(url=url), upstream)
    answer = CLIENT.post(request.url, content=request.body, headers=dict(request.headers))
    try:
        return oauth2.token_of(answer.status_code, answer.headers, answer.content).text
    except StreamFault as fault:
        assert fault.outcome.verdict is Verdict.AUTH
        return "none"


@pytest.mark.parametrize(("slug", "example"), SERVED)
def test_an_example_is_answered_to_its_own_request(
    sandbox: SandboxServer, slug: str, example: Example
) -> None:
    manifest = FILES[slug].manifest
    assert manifest
    answer = asked(request_of(manifest, example, played(sandbox, manifest)))
    assert answer.status_code == example.status
    assert answer.headers["content-type"] == example.content_type
    assert answer.content == example.body({})


ERRORS = [
    pytest.param(slug, [e for e in load_examples(slug) if e.serve is Serve.FAULT], id=slug)
    for slug in FILES
]


@pytest.mark.unmeasured
@pytest.mark.parametrize(("slug", "examples"), ERRORS)
def test_every_error_that_a_provider_shows_can_be_asked_for(
    sandbox: SandboxServer, slug: str, examples: list[Example]
) -> None:
    manifest = FILES[slug].manifest
    assert manifest
    for example in examples:
        request = request_of(manifest, example, played(sandbox, manifest))
        answer = asked(request, {"x-sandbox-fault": f"example={example.name}"})
        told = (answer.status_code, answer.headers["content-type"], answer.content)
        assert told == (example.status, example.content_type, example.body({})), example.name
        sent = {k: v for k, v in example.headers.items() if k != "date"}  # the server says its own
        assert sent.items() <= dict(answer.headers).items(), example.name


STEPPED = sorted(
    (slug, operation)
    for slug, file in FILES.items()
    if file.manifest
    for operation, plan in file.manifest.operations.items()
    if plan.earlier
)


@pytest.mark.parametrize(("slug", "operation"), STEPPED)
def test_an_operation_with_steps_is_answered_from_end_to_end(
    sandbox: SandboxServer, slug: str, operation: str
) -> None:
    manifest = FILES[slug].manifest
    assert manifest
    own = [each for each in load_examples(slug) if each.operation == operation]
    example = next(each for each in own if each.serve is Serve.DEFAULT and not each.step)
    adapter, upstream = ManifestAdapter(manifest), played(sandbox, manifest)
    call = Call(operation, dict(example.params))

    def ended(request: UpstreamRequest) -> Outcome:
        answer = asked(request)
        judge = request.judge or adapter.outcome
        return judge(answer.status_code, answer.headers, answer.content)

    meter = adapter.meter(call, upstream)
    found = meter.whole(ended(adapter.request(call, upstream)), b"")
    while isinstance(found, Further):
        found = found.then([ended(request) for request in found.requests])
    data, expected = found.data, example.expect["data"]
    assert (data[0] == expected[0]) if isinstance(data, list) else (data == expected)


def test_what_was_asked_is_echoed(sandbox: SandboxServer) -> None:
    asked = {"base": "USD", "quote": "NOK"}
    _, answer = called(sandbox, "frankfurter", "finance.fx_rate", asked)
    assert answer.json()["base"] == "USD"
    assert list(answer.json()["rates"]) == ["NOK"]


KEYED = sorted(slug for slug, file in FILES.items() if file.needs_credential)


@pytest.mark.parametrize("slug", KEYED)
@pytest.mark.parametrize("secret", ["sk-bad-1", None])
def test_a_bad_or_missing_key_is_refused(
    sandbox: SandboxServer, slug: str, secret: str | None
) -> None:
    example = next(each for each in load_examples(slug) if each.serve is Serve.DEFAULT)
    outcome, answer = called(sandbox, slug, example.operation, example.params, secret=secret)
    assert outcome.verdict is Verdict.AUTH, answer.text


@pytest.mark.parametrize("slug", sorted(FILES))
def test_scripted_errors(sandbox: SandboxServer, slug: str) -> None:
    example = next(each for each in load_examples(slug) if each.serve is Serve.DEFAULT)
    fault = "status=503;retry_after=9"
    outcome, answer = called(sandbox, slug, example.operation, example.params, fault=fault)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "9"
    assert not outcome.is_answer
    assert outcome.falls_back


def test_an_example_can_be_asked_for_by_name(sandbox: SandboxServer) -> None:
    asked = {"base": "EUR", "quote": "SEK"}
    fault = "example=unknown-currency"
    outcome, _ = called(sandbox, "frankfurter", "finance.fx_rate", asked, fault=fault)
    assert outcome.verdict is Verdict.BLOCKED
    _, missing = called(sandbox, "frankfurter", "finance.fx_rate", asked, fault="example=nope")
    assert missing.status_code == 404


@pytest.mark.parametrize("path", ["/frankfurter", "/frankfurter/", "/frankfurter/v2/latest"])
def test_paths_that_no_operation_has(sandbox: SandboxServer, path: str) -> None:
    assert httpx2.get(sandbox.url + path).status_code == 404


@pytest.mark.parametrize("slug", ["..%2Fcatalogue%2Ffrankfurter", "schemas%2Fai", "nobody", "%00"])
def test_odd_provider_names_read_no_files(sandbox: SandboxServer, slug: str) -> None:
    assert httpx2.get(f"{sandbox.url}/{slug}/v1/latest").status_code == 404
