"""Keeps answers warm: what is declared, and what so many ask for that somebody will again.

A warm call is a call like others, which the gateway makes itself for a tenant or for the house,
with a row and a bill. It comes after all others: it waits while this worker is busy or the
provider rests, and may use only a part of every limit and quota (usage/demand.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import orjson
import structlog
from prometheus_client import Counter

from accounts.credentials import WarmCredential
from accounts.identity import HOUSE, Identity
from cache.cache import Ask, Look, Place
from cache.foresight import Foresight
from cache.warming import OK, Warmer
from gateway.caching import LOOK, Caching
from gateway.exchange import Receive, Scope, Send
from gateway.live import Live
from gateway.paths import Door, find
from gateway.reading import read_data
from gateway.routing import Candidate, Narrowing, resolve
from lib.problems import Problem
from providers.call import Call
from providers.operations import Kind, registry
from providers.operations.query import written
from providers.warm_requests import WarmSpec
from tenants.keys import Mode

log = structlog.get_logger("patchbay.warming")

SHOWN: Final = "patchbay.shown"  # in the scope of a warm call: who asks
RESTS, NOT_KEPT = "rests", "not_kept"
TURN_SECONDS = 1.0
AT_ONCE = 4
MOST_JOBS = 1000
MOST_ASKED = 2000  # calls that are learned from in a turn: of more, the latest
LOOK_UPS = 3
LONGEST = 60.0  # seconds that a warm call is waited for

CALLS = Counter(
    "patchbay_cache_warm_calls",
    "Calls made to keep answers warm: declared or learned, ok or failed.",
    ["why", "result"],
)
HITS = Counter("patchbay_cache_warm_hits", "Calls that found what learned warming kept at hand.")
USEFUL = Counter("patchbay_cache_warm_useful", "Learned warm calls that spared a caller the wait.")

Handle = Callable[[Door, Scope, Receive, Send], Awaitable[None]]
Asked = tuple[bytes, Place, Mapping[str, Any]]


class Question(NamedTuple):
    """What is asked and for whom. `params` are as a caller says them, `provider` and the like
    included."""

    tenant_id: int
    operation: str
    params: Mapping[str, Any]


class Prepared(NamedTuple):
    ask: Ask
    door: Door
    scope: Scope
    body: bytes


@dataclass(slots=True)
class Warming:
    """One for the whole process. `handle` is the gateway's own way in; `busy` and `resting` say
    whether this worker, and the target of a call, have no time for it."""

    live: Live
    caching: Caching
    handle: Handle
    busy: Callable[[], bool]
    resting: Callable[[Candidate], bool]
    foresight: Foresight = field(default_factory=Foresight)
    asked: deque[Asked] = field(default_factory=lambda: deque(maxlen=MOST_ASKED))
    jobs: asyncio.Queue[Callable[[], Awaitable[None]]] = field(
        default_factory=lambda: asyncio.Queue(MOST_JOBS)
    )
    _warmer: Warmer = field(init=False)
    _ran: dict[int, tuple[WarmSpec, float]] = field(default_factory=dict)
    _told: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self._warmer = Warmer(self.caching.cache, self.foresight)
        self.caching.asked = self.asked

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self.work())
            while True:
                await asyncio.sleep(TURN_SECONDS)
                try:
                    self.turn()
                except Exception:
                    log.exception("warming_failed")

    async def work(self) -> None:
        while True:
            job = await self.jobs.get()
            try:
                await job()
            except Exception:
                log.exception("warming_failed")
            finally:
                self.jobs.task_done()
            await asyncio.sleep(0)  # many need not wait for anything: let others have their turn

    def turn(self) -> None:
        """Learn from the last second's calls, and see what is due."""
        now = self.caching.cache.clock.now()
        self._learn(now)
        if self.busy():
            return
        for spec in self.live.snapshot.warm_requests:
            begins = _begins(spec, now)
            if self._ran.get(spec.id) != (spec, begins) and not self.jobs.full():
                self._ran[spec.id] = spec, begins
                self.jobs.put_nowait(partial(self._run_declared, spec, begins))
        for key in self.foresight.due(now):
            if not self.jobs.full():  # what has no place is planned anew when it is asked for
                self.jobs.put_nowait(partial(self._run_learned, key))

    def _learn(self, now: float) -> None:
        while self.asked:
            key, place, params = self.asked.popleft()
            is_usual = not place.together and "cursor" not in params
            if is_usual and place.mode == Mode.LIVE.value:
                self.foresight.note(key, _question(place, params), now)
        gain, (hits, useful) = self.foresight.gain, self._told
        HITS.inc(gain.hits - hits)
        USEFUL.inc(gain.useful - useful)
        self._told = gain.hits, gain.useful

    async def _run_declared(self, spec: WarmSpec, begins: float) -> None:
        """Once a period over all gateways; what has to wait does so until the next turn."""
        question = Question(spec.tenant_id or HOUSE, spec.operation, spec.params)
        try:
            prepared = await self._prepare(question)
            if prepared == RESTS:
                self._ran.pop(spec.id, None)
                return
            if not await self._is_ours(spec, begins):
                return
            outcome = NOT_KEPT
            if isinstance(prepared, Prepared):
                fetch = partial(self._fetch, prepared, "declared")
                until = begins + spec.every
                outcome = await self._warmer.ensure(prepared.ask, fetch, until=until)
        except Problem as problem:
            outcome = problem.code
        await self.live.note_warmed(spec.id, outcome)

    async def _run_learned(self, key: bytes) -> None:
        question = self.foresight.question(key)
        if question is None:
            return
        with contextlib.suppress(Problem):  # whoever asks for it will hear of it
            prepared = await self._prepare(question)
            if isinstance(prepared, Prepared) and prepared.ask.key == key:
                await self._warmer.refresh(prepared.ask, partial(self._fetch, prepared, "learned"))

    async def _prepare(self, question: Question) -> Prepared | str:
        """What to look for and how to ask; RESTS or NOT_KEPT. Raises the Problem that a caller
        would see."""
        shown = WarmCredential(question.tenant_id)
        identity = await self._identity(shown)
        operation = registry()[question.operation]
        query, body, narrowing = b"", b"", Narrowing()
        if operation.kind is Kind.DATA:
            query = urlencode(written(question.params)).encode()
            call, narrowing, _ = read_data(operation, query, "")
        else:
            body = orjson.dumps(question.params)
            call = Call(operation.name, dict(question.params), body, "")
        plan = resolve(
            self.live.snapshot, identity, operation, call, narrowing=narrowing, sandbox_url=""
        )
        if self.resting(plan.candidates[0]):
            return RESTS
        until = asyncio.get_running_loop().time() + LONGEST
        ask = self.caching.question(identity, call, plan, narrowing=narrowing, until=until)
        door = find(operation.path)
        if ask is None or door is None:
            return NOT_KEPT
        # Others who wait for the answer do not fail because a warm call may not ask for it.
        ask = ask._replace(policy=replace(ask.policy, fails_together=False))
        scope = _scope(door, operation.path, query) | {SHOWN: shown}
        return Prepared(ask, door, scope, body)

    async def _identity(self, shown: WarmCredential) -> Identity:
        identities = self.live.identities
        for _ in range(LOOK_UPS):
            if identities.remembered(shown):
                break
            await self.live.look_up(shown)
        return identities.check(shown, "")

    async def _fetch(self, prepared: Prepared, why: str, look: Look) -> str:
        answer = _Nobody(prepared.body)
        scope = {**prepared.scope, LOOK: look}
        await self.handle(prepared.door, scope, answer.receive, answer.send)
        outcome = answer.outcome
        CALLS.labels(why, "ok" if outcome == OK else "failed").inc()
        return outcome

    async def _is_ours(self, spec: WarmSpec, begins: float) -> bool:
        told = orjson.dumps([*spec, begins], option=orjson.OPT_SORT_KEYS)
        name = hashlib.blake2b(told, digest_size=32).digest()
        return await self.caching.cache.shared.claim(name, spec.every)


class _Nobody:
    """Stands where a client would: sends the body, and hears only whether it went well."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]
        self._status = 0
        self._answer = b""

    async def receive(self) -> dict[str, Any]:
        if self._left:
            return {"type": "http.request", "body": self._left.pop(), "more_body": False}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(self, message: dict[str, Any]) -> None:
        self._status = message.get("status", self._status)
        if self._status >= 400:
            self._answer += message.get("body", b"")

    @property
    def outcome(self) -> str:
        """OK, or the problem's code."""
        if 0 < self._status < 400:
            return OK
        told = orjson.loads(self._answer or b'{"code": "hung_up"}')
        return str(told.get("error", told)["code"])


def _begins(spec: WarmSpec, now: float) -> float:
    """When its present period began. Each has its own time within that; one that staff want at
    once begins another."""
    digest = hashlib.blake2b(b"%d" % spec.id, digest_size=8).digest()
    offset = int.from_bytes(digest) % spec.every
    begun = (now - offset) // spec.every * spec.every + offset
    return max(begun, spec.asked_at)


def _question(place: Place, params: Mapping[str, Any]) -> Question:
    asked = dict(params)
    if place.provider:
        asked["provider"] = place.provider
    if not place.fallback:
        asked["fallback"] = False
    if place.extra:
        asked["include"] = "extra"
    return Question(place.tenant_id or HOUSE, place.operation, asked)


def _scope(door: Door, path: str, query: bytes) -> Scope:
    return {
        "type": "http",
        "method": door.method,
        "path": path,
        "query_string": query,
        "headers": [],
        "client": ("", 0),
    }
