"""The shipped routes, whose providers die one after the other: whoever is left answers, and once
nobody is, what was kept does, or a problem that says so. The sandbox plays all of them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from api.configuration.catalogue import in_order
from providers.adapter import Unsupported
from providers.adapters.manifest import Manifest, ManifestAdapter
from providers.adapters.manifest.templates import as_text
from providers.call import Call, Upstream
from providers.catalogue import CatalogueFile, load_examples
from providers.operations import Kind, registry
from providers.sandbox.server import SandboxServer
from providers.snapshot import ProviderSpec, TargetSpec
from providers.transport import Http1Transport
from tests.clocks import ManualClock
from tests.gateway.unit.recorded_requests import default_example
from tests.gateway.unit.recordings import many_rigs, spec_of
from tests.gateway.unit.rig import Client, Rig, held, route
from tests.loops import on_loop
from tests.shipped import FILES

ROUTES = {
    name: [file for file in in_order(FILES, name) if name in file.operations]
    for name, operation in registry().items()
    if operation.kind is Kind.DATA
}
DEATHS = ("status=500", "cut_after=0;cut=reset", "malformed_json", "truncated_json")
KEPT = {"ttl": 300, "stale_while_revalidate": 0, "stale_if_error": 3600}
MANY = 30  # failures in a row that are enough for any breaker
tally: Counter[str] = Counter()


@pytest.fixture(scope="module")
def sandbox(is_long: bool) -> Iterator[SandboxServer]:
    with SandboxServer(fsync=False) as server:
        yield server
    if is_long:
        print(f"\n{len(ROUTES)} operations: {dict(tally)}")


class Stage:
    """A gateway with the shipped route of one operation, whose providers are at `url`."""

    def __init__(self, rig: Rig, sandbox: SandboxServer, operation: str, url: str) -> None:
        self.rig, self.sandbox, self.operation = rig, sandbox, operation
        self.files = ROUTES[operation]
        targets = [TargetSpec(played(file, url)) for file in self.files]
        rig.serve(route(*targets, operation=operation, cache=KEPT))
        sandbox.control("POST", "reset")

    def kill(self, files: Sequence[CatalogueFile]) -> None:
        for number, file in enumerate(files):
            self.sandbox.control("PUT", f"faults/{file.slug}", DEATHS[number % len(DEATHS)])

    async def ask(self, params: dict[str, Any]) -> Client:
        operation = registry()[self.operation]
        if operation.method == "POST":
            return await self.rig.ask(operation.path, body=params)
        query = urlencode({name: as_text(value) for name, value in params.items()})
        return await self.rig.ask(f"{operation.path}?{query}")

    async def asked_until_all_rest(self, params: dict[str, Any]) -> Client:
        for _ in range(MANY):
            client = await self.ask(params)
            if client.error["code"] == "circuit_open":
                break
        return client


def played(file: CatalogueFile, url: str) -> ProviderSpec:
    """The provider's row, where somebody else plays it: with a credential, if it needs one."""
    spec = spec_of(file)
    played_at = f"{url}/{file.slug}"
    base_url = played_at + urlsplit(file.document["base_url"]).path.rstrip("/")
    adapter = ManifestAdapter(manifest_of(file))
    if adapter.grant:
        adapter.grant = adapter.grant._replace(url=played_at + urlsplit(adapter.grant.url).path)
    secret = adapter.secret_form.of_the_sandbox("a-secret")
    secrets = {None: held(secret)} if file.needs_credential else {}
    return replace(spec, adapter=adapter, base_url=base_url, secrets=secrets)


def manifest_of(file: CatalogueFile) -> Manifest:
    assert file.manifest
    return file.manifest


def asked_of(file: CatalogueFile, operation: str) -> dict[str, Any]:
    """A call that this provider takes."""
    return dict(default_example(load_examples(file.slug), operation).params)


def takes(file: CatalogueFile, operation: str, params: dict[str, Any]) -> bool:
    """Whether it is asked at all, as it is not for what it cannot be told."""
    adapter, upstream = ManifestAdapter(manifest_of(file)), Upstream(file.slug, "https://x.example")
    try:
        adapter.request(Call(operation, params), upstream)
    except Unsupported:
        return False
    return True


def may_be_kept(file: CatalogueFile) -> bool:
    """As long as the test takes, by its terms."""
    most = manifest_of(file).max_retention
    return most is None or most > KEPT["ttl"] + 1


Staged = Callable[..., contextlib.AbstractAsyncContextManager[Stage]]


@pytest.fixture(scope="module")
def staged(sandbox: SandboxServer) -> Iterator[Staged]:
    with many_rigs() as make_rig:

        @contextlib.asynccontextmanager
        async def stage(operation: str, url: str = sandbox.url) -> AsyncIterator[Stage]:
            # How old an answer is follows from the sandbox's own Date.
            rig = make_rig(transport=Http1Transport(), clock=ManualClock(now=time.time()))
            yield Stage(rig, sandbox, operation, url)
            await rig.gateway.stop()

        yield stage


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """Where nobody listens, nor will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.unmeasured
@pytest.mark.parametrize("operation", ROUTES)
@on_loop
async def test_whoever_is_left_answers(staged: Staged, operation: str, is_long: bool) -> None:
    """`--long`: each of them in turn, once those before it are dead; else the last one."""
    serving = ROUTES[operation]
    for place in range(len(serving)) if is_long else [len(serving) - 1]:
        last, dead = serving[place], serving[:place]
        params = asked_of(last, operation)
        async with staged(operation) as stage:
            stage.kill(dead)
            client = await stage.ask(params)
        assert client.status == 200, client.json
        meta = client.json["meta"]
        assert (meta["provider"], meta["cached"], meta["stale"]) == (last.slug, False, False)
        tried = [each["provider"] for each in meta["attempts"]]
        asked = [file.slug for file in dead if takes(file, operation, params)]
        assert tried == [*asked, last.slug]
        assert [each["outcome"] for each in meta["attempts"]].count("ok") == 1
        tally["answered by the last one left"] += 1


@on_loop
async def test_what_one_provider_does_not_know_is_no_last_word(staged: Staged) -> None:
    """The European Central Bank tells of thirty currencies, others of many more."""
    async with staged("finance.fx_rate") as stage:
        rate = await stage.ask({"base": "EUR", "quote": "ARS", "provider": "ecb-eurofxref"})
        nowhere = await stage.ask({"base": "EUR", "quote": "XQQ"})
    assert rate.status == 400
    assert nowhere.status == 404
    assert nowhere.error["detail"].startswith("ExchangeRate-API open access knows nothing")


@pytest.mark.unmeasured
@pytest.mark.parametrize("operation", ROUTES)
@on_loop
async def test_when_nobody_is_left_what_was_kept_is_served_as_stale(
    staged: Staged, operation: str
) -> None:
    async with staged(operation) as stage:
        params = asked_of(stage.files[0], operation)
        first = await stage.ask(params)
        stage.rig.clock.advance(KEPT["ttl"] + 1)
        stage.kill(stage.files)
        client = await stage.ask(params)
    assert first.headers["x-patchbay-cache"] == "miss"
    if not may_be_kept(stage.files[0]):
        assert client.error["code"] == "provider_unavailable"
        return
    assert client.status == 200, client.json
    assert client.json["data"] == first.json["data"]
    meta = client.json["meta"]
    assert (meta["provider"], meta["cached"], meta["stale"]) == (stage.files[0].slug, True, True)
    assert client.headers["x-patchbay-cache"] == "stale"
    tally["stale"] += 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("operation", ROUTES)
@on_loop
async def test_when_nothing_was_kept_a_problem_says_so(
    staged: Staged, nobody: str, operation: str
) -> None:
    async with staged(operation, nobody) as stage:
        params = asked_of(stage.files[0], operation)
        first = await stage.ask(params)
        last = await stage.asked_until_all_rest(params)
    assert (first.status, first.error["code"]) == (503, "provider_unavailable"), first.json
    asked = [file.slug for file in ROUTES[operation] if takes(file, operation, params)]
    assert [each["provider"] for each in first.error["attempts"]] == asked
    # The latter where not even a token is to be had.
    outcomes = {each["outcome"] for each in first.error["attempts"]}
    assert outcomes <= {"unreachable", "upstream_unavailable"}
    assert (last.status, last.error["code"]) == (503, "circuit_open"), last.json
    assert int(last.headers["retry-after"]) > 0
    tally["everybody dead"] += 1
