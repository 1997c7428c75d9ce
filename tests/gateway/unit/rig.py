"""A gateway in this process: scripted upstreams, a journal in memory, a client that can leave."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from accounts.identities import Identities
from accounts.identity import Identity, Record
from billing.book import PriceBook, PriceVersion
from cache.cache import Cache
from gateway.app import Gateway, Options
from gateway.paths import find
from providers.call import UpstreamRequest
from providers.catalogue import documents
from providers.dialects import adapter_for
from providers.operations import Kind, registry
from providers.prices import Prices
from providers.retry_policy import RetryPolicy
from providers.snapshot import (
    CredentialSpec,
    ModelSpec,
    ProviderSpec,
    RouteSpec,
    Snapshot,
    TargetSpec,
)
from providers.timeouts import Timeouts
from providers.transport import Transport
from tenants import keys
from tenants.keys import Mode
from tests.clocks import ManualClock
from tests.usage.counters.stage import Book
from usage.admission import Admissions
from usage.counters.memory import MemoryCounters
from usage.ledger import Entry, Final, Ledger, Opened, StoreLost

CHAT = "/api/v1/chat/completions"
SANDBOX = "http://sandbox.test"
NOTHING_KEPT = {"ttl": 0}  # each call reaches an upstream, unless a test is about the cache
HELLO = [{"role": "user", "content": "hello"}]


class Forever:
    """A part of an answer that never comes."""


FOREVER = Forever()
Part = bytes | Exception | Forever


@dataclass
class Reply:
    """What an upstream answers: a status, and a body that comes part by part."""

    parts: Sequence[Part]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    closed: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            await asyncio.sleep(0)
            if isinstance(part, Exception):
                raise part
            if isinstance(part, Forever):
                await asyncio.Event().wait()
            else:
                yield part

    async def read(self) -> bytes:
        return b"".join([part async for part in self.chunks()])

    def close(self) -> None:
        self.closed = True


def whole(document: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer in two parts."""
    body = json.dumps(document).encode()
    headers = {"content-type": "application/json"} | headers
    return Reply([body[:9], body[9:]], status, headers)


def chat(text: str = "hello back", usage: Mapping[str, int] | None = None) -> Reply:
    message = {"role": "assistant", "content": text}
    return whole(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-x",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            if usage is None
            else dict(usage),
        }
    )


DONE = b"data: [DONE]\n\n"
COUNT = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def event(text: str | None = None, usage: Mapping[str, int] | None = None) -> bytes:
    """One chunk of OpenAI's: a piece of text, the end, or the usage."""
    choice = {
        "index": 0,
        "delta": {"content": text} if text else {},
        "finish_reason": None if text else "stop",
    }
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-x",
        "choices": [] if usage else [choice],
        "usage": dict(usage) if usage else None,
    }
    return b"data: " + json.dumps(document).encode() + b"\n\n"


WHOLE_STREAM = (event("hello "), event("back"), event(), event(usage=COUNT), DONE)


def stream(*parts: Part) -> Reply:
    return Reply(parts or WHOLE_STREAM, 200, {"content-type": "text/event-stream"})


def failure(status: int = 500) -> Reply:
    return whole({"error": {"message": "no"}}, status)


Script = Callable[[UpstreamRequest], Reply | Exception]


class Upstreams:
    """The transport. `script` says what each request meets; `by_provider` does so by slug."""

    def __init__(self) -> None:
        self.script: Script = lambda request: chat()
        self.sent: list[UpstreamRequest] = []
        self.private: list[bool] = []
        self.replies: list[Reply] = []
        self.closed = False

    def by_provider(self, **scripts: Callable[[], Reply | Exception]) -> None:
        self.script = lambda request: scripts.get(slug_of(request), chat)()

    @property
    def asked(self) -> list[str]:
        """The providers that were tried, in order."""
        return [slug_of(request) for request in self.sent]

    async def send(
        self, request: UpstreamRequest, timeouts: Timeouts, *, allow_private: bool
    ) -> Reply:
        self.sent.append(request)
        self.private.append(allow_private)
        await asyncio.sleep(0)
        reply = self.script(request)
        if isinstance(reply, Exception):
            raise reply
        self.replies.append(reply)
        return reply

    async def close(self) -> None:
        self.closed = True


def slug_of(request: UpstreamRequest) -> str:
    """Live upstreams are <slug>.test; the sandbox has the slug in its path."""
    url = urlsplit(request.url)
    host = url.hostname or ""
    return url.path.split("/")[1] if host == "sandbox.test" else host.removesuffix(".test")


class MemoryJournal:
    """Keeps what was written. `turns`: how many turns of the loop a write takes (0: at once);
    `away`: the database is."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.turns = 0
        self.away = False
        self.closed = False

    def write_at_once(self, entries: Sequence[Entry]) -> bool:
        if self.turns or self.away:
            return False
        self.entries += map(_as_written, entries)
        return True

    async def write(self, entries: Sequence[Entry]) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.away:
            raise StoreLost("away")
        self.entries += map(_as_written, entries)

    async def close(self) -> None:
        self.closed = True

    @property
    def finals(self) -> list[Final]:
        return [entry for entry in self.entries if isinstance(entry, Final)]

    @property
    def opened(self) -> list[Opened]:
        return [entry for entry in self.entries if isinstance(entry, Opened)]


def _as_written(entry: Entry) -> Entry:
    """A row does not change when its record does afterwards."""
    return dataclasses.replace(entry, record=copy.copy(entry.record))


class Client:
    """Plays the server's side of ASGI: hands a request in, keeps what comes, and may leave."""

    def __init__(
        self, parts: Sequence[bytes] = (b"",), journal: MemoryJournal | None = None
    ) -> None:
        self._parts = list(parts)
        self._journal = journal
        self.gone = asyncio.Event()
        self.more_would_come = False
        self.received = 0
        self.messages: list[dict[str, Any]] = []
        self.rows_at_the_end: int | None = None
        self.on_message: Callable[[dict[str, Any]], None] = lambda message: None

    async def receive(self) -> dict[str, Any]:
        if self._parts and not self.gone.is_set():
            self.received += 1
            part = self._parts.pop(0)
            more = bool(self._parts) or self.more_would_come
            return {"type": "http.request", "body": part, "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        assert not self.ended, "something after the last byte"
        is_start = message["type"] == "http.response.start"
        assert is_start is not bool(self.messages), "one head, and it comes first"
        self.messages.append(message)
        if self.ended and self._journal is not None:
            self.rows_at_the_end = len(self._journal.finals)
        self.on_message(message)

    @property
    def ended(self) -> bool:
        last = self.messages[-1] if self.messages else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        pairs = self.messages[0]["headers"]
        return {name.decode(): value.decode() for name, value in pairs}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The problem, in whichever envelope."""
        document: dict[str, Any] = self.json
        return document.get("error", document)

    @property
    def text(self) -> str:
        """What a stream's chunks said, joined."""
        events = [e.removeprefix(b"data: ") for e in self.body.split(b"\n\n")]
        chunks = [json.loads(e) for e in events if e and e != b"[DONE]"]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def provider(slug: str, adapter: str = "openai", **fields: Any) -> ProviderSpec:
    plain: dict[str, Any] = {
        "base_url": f"https://{slug}.test/v1",
        "settings": {},
        "manifest": None,
        "needs_credential": True,
        "allow_private_network": False,
        "timeouts": Timeouts(),
        "secrets": {None: f"sk-{slug}"},
    }
    spec = plain | fields
    spec["secrets"] = {owner: held(secrets) for owner, secrets in spec["secrets"].items()}
    return ProviderSpec(slug=slug, adapter=adapter_for(adapter), **spec)


def held(secrets: str | Sequence[str | CredentialSpec]) -> tuple[CredentialSpec, ...]:
    """Credentials by their secrets, under names made of these."""
    each_of = [secrets] if isinstance(secrets, str) else secrets
    return tuple(
        CredentialSpec(f"crd_{each}", each) if isinstance(each, str) else each for each in each_of
    )


def data_provider(slug: str) -> ProviderSpec:
    """One of the catalogue's, by its manifest."""
    manifest = dict(documents.read_document(documents.FOLDER / f"{slug}.yaml").document)
    return ProviderSpec(
        slug=slug,
        adapter=adapter_for("manifest", manifest),
        base_url=f"https://{slug}.test",
        settings={},
        manifest=manifest,
        needs_credential=manifest["auth"]["type"] != "none",
        allow_private_network=False,
        timeouts=Timeouts(),
        secrets={},
    )


def target(
    of: str | ProviderSpec, model: str = "gpt-x", weight: int = 1, **fields: Any
) -> TargetSpec:
    plain: dict[str, Any] = {
        "operation": "chat.completions",
        "context": 8000,
        "max_output": 100,
        "capabilities": frozenset(),
    }
    spec = provider(of) if isinstance(of, str) else of
    return TargetSpec(spec, ModelSpec(model_id=model, **plain | fields), weight)


def data_target(slug: str) -> TargetSpec:
    return TargetSpec(data_provider(slug))


def route(*targets: TargetSpec, name: str = "m", operation: str = "", **fields: Any) -> RouteSpec:
    model = targets[0].model if targets else None
    operation = operation or (model.operation if model else "chat.completions")
    fields = {"cache": NOTHING_KEPT, **fields}
    return RouteSpec(name, operation, fields.pop("strategy", "priority"), targets, **fields)


def snapshot(*routes: RouteSpec, **fields: Any) -> Snapshot:
    """Routes by the name that a client says: none for data operations."""
    is_model = {r.operation: registry()[r.operation].kind is not Kind.DATA for r in routes}
    named = {(r.operation, r.name if is_model[r.operation] else ""): r for r in routes}
    return Snapshot(routes=named, **fields)


ONCE = RetryPolicy(max_attempts=1)


class Halves:
    """Chance, held still: every random wait is half as long as it may be."""

    def random(self) -> float:
        return 0.5

    def betavariate(self, alpha: float, beta: float) -> float:
        return 0.5


PLAIN = Prices(1_000_000, 2_000_000)


def price_book(targets: Iterable[TargetSpec], prices: Mapping[str, Prices]) -> PriceBook:
    """Versions 1, 2 … of what the targets cost: `prices` by their names, or else PLAIN."""
    names = {(t.provider.slug, t.model.model_id, "") for t in targets if t.model}
    return PriceBook(
        (of, PriceVersion(number, prices.get(f"{of[0]}/{of[1]}", PLAIN)))
        for number, of in enumerate(sorted(names), 1)
    )


class Callers:
    """The database's keys: what a look-up of each finds."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.looked_up: list[str] = []
        self.fault: Exception | None = None

    def add(self, *, tenant: int | None = 1, mode: Mode = Mode.LIVE, **fields: Any) -> str:
        """A new key's text. `fields` are the record's or the identity's."""
        made = keys.generate(mode)
        of_record = {k: fields.pop(k) for k in ("networks", "expires_at", "revoked") if k in fields}
        identity = Identity(
            kind="key",
            mode=mode,
            tenant_id=tenant,
            tenant_public_id=f"ten_{tenant}",
            key_id=len(self.records) + 1,
            **{
                "scopes": frozenset({"*"}),
                "project_id": tenant,
                "key_public_id": made.public_id,
            }
            | fields,
        )
        digest = keys.digest(made.text, settings.KEY_PEPPER)
        self.records[made.public_id] = Record(identity, digest, **of_record)
        return made.text

    def find(self, name: str) -> Record | None:
        self.looked_up.append(name)
        if self.fault is not None:
            raise self.fault
        return self.records.get(name)


class Rig:
    """A gateway and all around it. `key` is a live one of tenant 1, which may do all. With a
    `transport`, it asks whom that leads to instead of the scripted upstreams."""

    def __init__(self, callers: Callers, **options: Any) -> None:
        self.callers = callers
        self.clock: ManualClock = options.pop("clock", None) or ManualClock()
        self.upstreams = Upstreams()
        transport: Transport = options.pop("transport", self.upstreams)
        self.journal = MemoryJournal()
        self.book = Book()
        self.gateway = Gateway(
            Options(**{"sandbox_url": SANDBOX} | options),
            Ledger(self.journal),
            Identities(self.clock),
            Admissions(MemoryCounters(self.clock), self.book, self.clock),
            clock=self.clock,
            transport=transport,
            cache=Cache(b"a secret of the rig's", clock=self.clock),
        )
        self.waits: list[float] = []
        retrying = self.gateway.dispatcher.retrying
        retrying.sleep, retrying.random = self._wait, Halves()
        self.key = callers.add()
        self.serve(route(target("lab")))

    async def _wait(self, seconds: float) -> None:
        """A call's wait before a retry, which takes no time but the clock's."""
        self.waits.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    def serve(
        self, *routes: RouteSpec, prices: Mapping[str, Prices] | None = None, **fields: Any
    ) -> None:
        targets = [target for route in routes for target in route.targets]
        self.gateway.live.snapshot = snapshot(*routes, **fields)
        self.gateway.live.prices = price_book(targets, prices or {})

    def client(self, *parts: bytes) -> Client:
        return Client(parts or (b"",), self.journal)

    async def run(self, client: Client, path: str = CHAT, **request: Any) -> Client:
        """One request as the server would hand it in. `headers` may be a list of pairs."""
        where, _, query = path.partition("?")
        door = find(where)
        assert door is not None, path
        scope = {
            "type": "http",
            "method": request.get("method", door.method),
            "path": where,
            "query_string": query.encode("latin-1"),
            "headers": self._headers(request),
            "client": (request.get("peer", "192.0.2.7"), 1234),
        }
        await self.gateway.handle(door, scope, client.receive, client.send)
        return client

    async def ask(self, path: str = CHAT, **request: Any) -> Client:
        """A request with `body` as JSON (chat by default), and its answer."""
        body = request.pop("body", {"model": "m", "messages": HELLO})
        is_get = "?" in path or "/models" in path
        raw = body if isinstance(body, bytes) else b"" if is_get else json.dumps(body).encode()
        return await self.run(self.client(raw), path, **request)

    async def chat(self, **request: Any) -> Client:
        """A chat call; what is no part of the request itself goes into its body."""
        own = {k: request.pop(k) for k in ("key", "headers", "peer") if k in request}
        return await self.ask(body={"model": "m", "messages": HELLO, **request}, **own)

    async def settled(self) -> None:
        """Nothing waits to be written any more."""
        await self.gateway.ledger.close()

    @property
    def final(self) -> Final:
        (final,) = self.journal.finals
        return final

    def _headers(self, request: dict[str, Any]) -> list[tuple[bytes, bytes]]:
        headers = request.get("headers", {})
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        key = request.get("key", self.key)
        if key is not None:
            pairs.append(("x-api-key", key))
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


async def nothing_runs() -> bool:
    """Whether this test is all that is left on its loop."""
    for _ in range(20):
        await asyncio.sleep(0)
    return asyncio.all_tasks() == {asyncio.current_task()}
