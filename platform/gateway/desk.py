"""What staff ask of the data path from the admin: who would serve a call now and why, and one
call to see whether a provider answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import orjson

from accounts.credentials import HouseCredential
from accounts.identity import Identity
from gateway.admitting import Look
from gateway.app import Gateway
from gateway.exchange import Scope
from gateway.paths import find
from gateway.reading import read_data
from gateway.routing import Candidate, Narrowing, resolve
from gateway.warming import SHOWN
from lib.problems import NotFound
from lib.stores import StoreAway
from providers.call import Call, Upload
from providers.operations import Kind, Operation, registry, validate
from providers.operations.query import written
from tenants.keys import Mode
from usage.counters.claims import MICROSECONDS, CountersAway, Part, QuotaClaim, SlotClaim, State

WOULD_SERVE: Final = "would_serve"
PATIENCE: Final = 15.0  # seconds for a test call, after which staff hang up
MOST_BYTES: Final = 64 * 1024  # of an answer that are kept
_NO_FILE: Final = Upload("recording.mp3", "audio/mpeg", b"", 0)


class Obstacle(NamedTuple):
    """Why a target would be passed over now."""

    reason: str
    detail: str


class Desk:
    """One for the whole process, for threads that are not the loop's."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def explain(self, identity: Identity, operation: str, params: Mapping[str, Any]) -> Any:
        """As `preview`. Raises TimeoutError where the loop does not get to it."""
        return self._gateway.on_loop(self.preview(identity, operation, params))

    def ask(self, operation: str, params: Mapping[str, Any], mode: Mode) -> Any:
        """As `call`. Raises TimeoutError where it does not end."""
        return self._gateway.on_loop(self.call(operation, params, mode), PATIENCE + 2)

    async def preview(
        self, identity: Identity, name: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Each target in the order in which this call would try them, with what stands in its
        way; `refusal` is what the caller's own limits would say. It claims nothing, and takes no
        turn of a weighted route. Raises the Problem that the caller would see otherwise.
        """
        gateway, operation = self._gateway, _operation(name)
        call, narrowing = _made(operation, params)
        url = gateway.options.sandbox_url
        plan = resolve(
            gateway.live.snapshot, identity, operation, call, narrowing=narrowing, sandbox_url=url
        )
        now, prices = gateway.clock.now(), gateway.live.prices
        plan = replace(plan, turns=plan.turns.copy())
        plan = gateway.arranger.arrange(plan, call, narrowing, None, prices=prices, at=now)
        explained = gateway.arranger.explain(plan, call, None, prices=prices, at=now)
        try:
            look = await gateway.admitting.look(identity, call, plan, now=now, prices=prices)
        except (CountersAway, StoreAway):
            look = Look(None, [])
        full = [_full(*each) for each in look.providers] or [None] * len(plan.candidates)
        obstacles = list(map(self._obstacle, plan.candidates, full))
        refusal = look.refusal.detail if look.refusal else ""
        return {**_marked(explained.document([]), obstacles), "refusal": refusal}

    def _obstacle(self, candidate: Candidate, full: Obstacle | None) -> Obstacle | None:
        """None where nothing is in its way."""
        dispatcher = self._gateway.dispatcher
        left = dispatcher.retrying.pool.seconds_left(candidate.upstreams)
        if left == float("inf"):
            return Obstacle("no_credential", "none, or the provider refused all there are")
        if left > 0:
            return Obstacle("credential_rests", f"for {left:.0f} s more: the provider limited it")
        rests = dispatcher.breakers.rests
        resting = next((name for name in candidate.breakers if rests(name)), None)
        if resting is not None:
            return Obstacle("circuit_open", f"the breaker of {_bare(resting)}")
        return full

    async def call(self, name: str, params: Mapping[str, Any], mode: Mode) -> dict[str, Any]:
        """Make the call as the house: with its limits, a row and a bill like any other, and
        never from the cache. Not for an operation that takes a file. Raises NotFound."""
        operation = _operation(name)
        door = find(operation.path)
        assert door is not None  # noqa: S101 - every operation has one
        query, body = b"", b""
        if operation.kind is Kind.DATA:
            query = urlencode(written(params)).encode()
        else:
            body = orjson.dumps(params)
        hearing = _Hearing(body)
        begun = time.perf_counter()
        await self._gateway.handle(
            door, _scope(door.method, operation, query, mode), hearing.receive, hearing.send
        )
        return {
            "status": hearing.status,
            "headers": hearing.headers,
            "body": hearing.text,
            "milliseconds": round((time.perf_counter() - begun) * 1000),
        }


class _Hearing:
    """A client that sends one body, keeps the answer's beginning, and hangs up in the end."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def text(self) -> str:
        """The body; of one that is no text only how much there is."""
        kind = self.headers.get("content-type", "")
        if "json" in kind or kind.startswith("text/"):
            return self.body.decode("utf-8", "replace")
        return f"{len(self.body)} bytes of {kind or 'nothing'}"

    async def receive(self) -> dict[str, Any]:
        if self._left:
            return {"type": "http.request", "body": self._left.pop(), "more_body": False}
        await asyncio.sleep(PATIENCE)
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            pairs = message["headers"]
            self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in pairs}
        else:
            room = MOST_BYTES - len(self.body)
            self.body += message.get("body", b"")[:room]


def _full(refused: Sequence[State], part: Part) -> Obstacle | None:
    """The first of the provider's limits and quotas that has no room for what is asked of it."""
    for claim, left, wait, _ in refused:
        if isinstance(claim, QuotaClaim):
            limit, name = claim.quota.limit, claim.quota.name
            more = f"; this call may need {claim.amount(part.amounts)}" if left else ""
            return Obstacle("quota", f"{name}: {limit - left} of {limit}{more}")
        limit, name = claim.limit.limit, claim.limit.name
        if isinstance(claim, SlotClaim):
            return Obstacle("bulkhead", f"{name}: {limit} calls at the same time are under way")
        seconds = max(1, wait // MICROSECONDS)
        return Obstacle("rate_limit", f"{name}: {limit - left} of {limit}, for {seconds} s more")
    return None


def _marked(document: dict[str, Any], obstacles: Sequence[Obstacle | None]) -> dict[str, Any]:
    """With what is in each candidate's way, and which of them would serve."""
    serves = next((n for n, obstacle in enumerate(obstacles) if obstacle is None), None)
    for place, (told, obstacle) in enumerate(zip(document["targets"], obstacles, strict=False)):
        told["detail"] = obstacle.detail if obstacle else ""
        if obstacle is not None:
            told["reason"] = obstacle.reason
        elif place == serves:
            told["reason"] = WOULD_SERVE
    return document


def _operation(name: str) -> Operation:
    operation = registry().get(name)
    if operation is None:
        raise NotFound(f"There is no operation {name[:64]!r}.")
    return operation


def _made(operation: Operation, params: Mapping[str, Any]) -> tuple[Call, Narrowing]:
    """Raises InvalidRequest."""
    if operation.kind is Kind.DATA:
        call, narrowing, _ = read_data(operation, urlencode(written(params)).encode(), "")
        return call, narrowing
    validate(operation, dict(params))
    upload = _NO_FILE if operation.kind is Kind.TRANSCRIPTION else None
    call = Call(operation.name, dict(params), orjson.dumps(params), file=upload)
    return call, Narrowing()


def _scope(method: str, operation: Operation, query: bytes, mode: Mode) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": operation.path,
        "query_string": query,
        "headers": [(b"x-patchbay-cache-control", b"no-store")],
        "client": ("", 0),
        SHOWN: HouseCredential(mode),
    }


def _bare(name: str) -> str:
    """A breaker's name without the tenant's that test mode puts before it."""
    return name.split(":", 2)[-1] if name.startswith("test:") else name
