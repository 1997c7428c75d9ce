"""What providers really answered once (shared/recordings), served to a gateway from a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import pytest
import yaml

from accounts.credentials import KeyCredential
from accounts.identity import Record
from providers.adapters.manifest import ManifestAdapter, ManifestOperation
from providers.catalogue import CatalogueFile, load_examples
from providers.dialects import adapter_for
from providers.operations import Kind, registry
from providers.retry_policy import RetryPolicy
from providers.snapshot import ModelSpec, ProviderSpec, TargetSpec
from providers.timeouts import Timeouts
from providers.transport import Http1Transport
from tenants.keys import Mode
from tests.gateway.unit.recorded_requests import default_example, request_for
from tests.gateway.unit.rig import Callers, Rig, route
from tests.providers.upstreams import Connection, answer, serving
from tests.shipped import FILES

FOLDER = Path(__file__).parents[3] / "../shared/recordings"
BY_SLUG = {file.slug: file for file in FILES}
TOKEN = orjson.dumps({"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600})

Known = dict[str, Any]
KNOWN: Known = yaml.safe_load((Path(__file__).parent / "recordings.yaml").read_text("utf-8"))
"""Under other names, with which parameters, and what comes to something else than its name says."""


class Reason(NamedTuple):
    """Why something comes to that verdict, which is another than its name says."""

    verdict: str
    why: str


OTHERWISE = {
    path: Reason(verdict, group["why"])
    for group in KNOWN["results"]
    for path, verdict in group["are"].items()
}


@dataclass(frozen=True)
class Recording:
    """One exchange. `path` is its file's; `at` is the provider in our catalogue."""

    path: str
    provider: str
    named: str

    @property
    def operation(self) -> str:
        known, name = KNOWN["operations"], self.named
        return str(known.get(f"{self.provider} {name}", known.get(name, name)))

    @property
    def at(self) -> str:
        known, name = KNOWN["providers"], self.provider
        written = name if name in BY_SLUG else name.replace(".", "-")
        return str(known.get(f"{name} {self.named}", known.get(name, written)))

    @property
    def file(self) -> CatalogueFile:
        return BY_SLUG[self.at]

    @property
    def title(self) -> str:
        return Path(self.path).stem.partition("--")[2]

    @cached_property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((FOLDER / self.path).read_text("utf-8"))
        return found

    @property
    def is_stream(self) -> bool:
        return self.operation == "chat.completions" and self.title.startswith("stream")

    @property
    def body(self) -> bytes:
        response = self.document["response"]
        body = response["body"]
        if self.path in KNOWN["without_list"]:
            body = [body]
        charset = KNOWN["charsets"].get(self.path, "utf-8")
        is_text = response["body_encoding"] == "text"
        raw = body.encode(charset) if is_text else orjson.dumps(body)
        # Its source kept the lines of a stream and lost the empty ones.
        return raw.replace(b"\n", b"\n\n") if self.path in KNOWN["without_empty_lines"] else raw

    @property
    def not_ours(self) -> str:
        """Why nothing of ours could be asked for it; "" where something can. Raises KeyError where
        nobody said why."""
        if self.at in BY_SLUG and self.operation in self.file.operations:
            return ""
        reason: str = KNOWN["not_ours"][f"{self.provider} {self.operation}"]
        return reason

    def raw(self) -> bytes:
        """The answer on the wire."""
        response = self.document["response"]
        headers = {"content-type": response["content_type"], **response["headers"]}
        lines = [f"{name}: {value}".encode() for name, value in headers.items()]
        return _wire(KNOWN["statuses"].get(self.path, response["status"]), lines, self.body)


def recordings() -> list[Recording]:
    index = json.loads((FOLDER / "INDEX.json").read_text("utf-8"))
    return [Recording(each["path"], each["provider"], each["operation"]) for each in index]


def _wire(status: int, headers: list[bytes], body: bytes) -> bytes:
    phrase = http.client.responses.get(status, "Unknown")
    return answer(body, *headers, status=f"{status} {phrase}".encode())


@dataclass(frozen=True, slots=True)
class Result:
    """What a call came to that was answered with a recording. `step` is the one that it answers."""

    recording: Recording
    verdict: str
    status: int
    step: str = ""

    @property
    def is_right(self) -> bool:
        """By what its name says, or else by what was looked at and is known."""
        if (known := OTHERWISE.get(self.recording.path)) is not None:
            return self.verdict == known.verdict
        if self.recording.title.startswith("error"):
            return self.verdict not in ("ok", "bad_payload")
        if self.recording.title.startswith("empty"):
            return self.verdict in ("empty", "not_found")
        return self.verdict == "ok"


async def called(recording: Recording, make_rig: Callable[..., Rig]) -> Result:
    """A recording of an operation with steps may be an answer to any of its requests: it is given
    as that which finds something with it."""
    steps = [""]
    if recording.file.manifest:
        plan = recording.file.manifest.operations[recording.operation]
        steps += [step.name for step in plan.earlier]
    results = [await _called(recording, step, make_rig) for step in steps]
    return next((each for each in results if each.is_right), results[0])


async def _called(recording: Recording, step: str, make_rig: Callable[..., Rig]) -> Result:
    upstream = _Upstream(recording, step)
    async with serving(upstream.handle) as server:
        rig = make_rig(sandbox_url=server.url, transport=Http1Transport())
        rig.serve(route(_target(recording), operation=recording.operation))
        key = rig.callers.add(mode=Mode.TEST)
        asked = request_for(recording)
        client = await rig.ask(asked.path, body=asked.body, headers=asked.headers, key=key)
        await rig.gateway.stop()
    if client.status != 200:
        return Result(recording, str(rig.final.attempts[-1].verdict), client.status, step)
    found = _found(client, recording)
    return Result(recording, "ok" if found else "empty", client.status, step)


def _found(client: Any, recording: Recording) -> bool:
    """Whether there is anything in the answer, once it is known to be whole and canonical."""
    operation = registry()[recording.operation]
    if recording.is_stream:
        return client.body.endswith(b"data: [DONE]\n\n") and b'"error"' not in client.body
    if recording.operation == "chat.completions":
        message = client.json["choices"][0]["message"]
        return bool(message.get("content") or message.get("tool_calls"))
    if operation.kind is not Kind.DATA:
        return any(client.json.get(name) for name in ("data", "results", "text"))
    data = client.json["data"]
    items = data if operation.is_list else [data]
    assert all(map(operation.takes, items)), recording.path
    return bool(data)


class _Upstream:
    """Plays the provider. All but the recording's own request are answered by examples."""

    def __init__(self, recording: Recording, step: str) -> None:
        self.step = step
        self.raw = recording.raw()
        self.manifest = recording.file.manifest
        self.operation = recording.operation
        self.examples = load_examples(recording.at)

    async def handle(self, connection: Connection) -> None:
        while request := await connection.request():
            head, _, body = request.partition(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            await connection.send(self._answer(method, target, body))

    def _answer(self, method: str, target: str, body: bytes) -> bytes:
        manifest = self.manifest
        if manifest is None:
            return self.raw
        path = "/" + target.lstrip("/").partition("/")[2]
        grant = manifest.auth.grant
        if grant and path == urlsplit(grant.url).path:
            return _wire(200, [b"content-type: application/json"], TOKEN)
        base = urlsplit(manifest.base_url).path.rstrip("/")
        if not path.startswith(base):
            return _wire(404, [], b"")
        step = self._step(
            manifest.operations[self.operation], method, path.removeprefix(base), body
        )
        return self.raw if step == self.step else self._example(step)

    def _step(self, plan: ManifestOperation, method: str, url: str, body: bytes) -> str:
        for name, template in plan.requests:
            if template.recover(method, url, body) is not None:
                return name
        return next(name for name, template in plan.requests if template.link)

    def _example(self, step: str) -> bytes:
        example = default_example(self.examples, self.operation, step)
        headers = [f"content-type: {example.content_type}".encode()]
        return _wire(example.status, headers, example.body({}))


def _target(recording: Recording) -> TargetSpec:
    file, model = recording.file, None
    if not file.manifest:
        capabilities = frozenset({"streaming", "tools", "vision", "json_mode", "json_schema"})
        able = [each["id"] for each in file.models if each["operation"] == recording.operation]
        model = ModelSpec(able[0], recording.operation, 10**6, 10**5, capabilities)
    return TargetSpec(spec_of(file), model)


def spec_of(file: CatalogueFile) -> ProviderSpec:
    """As the catalogue's row is read, without credentials."""
    adapter = ManifestAdapter(file.manifest) if file.manifest else adapter_for(file.adapter)
    return ProviderSpec(
        slug=file.slug,
        adapter=adapter,
        base_url=file.document["base_url"],
        settings=file.document.get("settings", {}),
        manifest=dict(file.document) if file.manifest else None,
        needs_credential=file.needs_credential,
        allow_private_network=True,
        timeouts=Timeouts(),
        secrets={},
        retry=RetryPolicy(max_attempts=1),
    )


@contextlib.contextmanager
def many_rigs() -> Iterator[Callable[..., Rig]]:
    """Makes rigs for as many tests or calls as there are; each ends its own gateway."""
    everybody: list[Callers] = []

    def make_rig(**options: object) -> Rig:
        everybody.append(Callers())
        return Rig(everybody[-1], **options)

    def find(name: str) -> Record | None:
        return next((found for each in reversed(everybody) if (found := each.find(name))), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeyCredential, "find", lambda shown: find(shown.name))
        yield make_rig


async def all_called(make_rig: Callable[..., Rig]) -> list[Result]:
    """Of all that concern an operation of ours, in their order."""
    ours = [recording for recording in recordings() if not recording.not_ours]
    some = asyncio.Semaphore(8)

    async def one(recording: Recording) -> Result:
        async with some:
            return await called(recording, make_rig)

    return list(await asyncio.gather(*map(one, ours)))
