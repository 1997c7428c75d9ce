"""What the breakers of all workers have in common, in Redis or Valkey (breakers.lua).

Nothing is asked while a breaker is CLOSED. Changes are looked for a few times a second, so that
a provider that rests for one worker rests for all within a second; a store that is away leaves
every worker to itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from lib.valkey import Script, StoreAway, StoreError, Valkey
from providers.breaker import Result, State
from providers.breaker_policy import Policy
from providers.breakers import MOST, OnTold, Told

log = structlog.get_logger("patchbay.breakers")

LOOK_SECONDS = 0.25
LOOK_TIMEOUT = 1.0  # nobody waits for it
MOST_AT_ONCE = 1000
PREFIX = "{patchbay}:breaker"
CHANGES = f"{PREFIX}s"
_SCRIPT = Script(Path(__file__).with_name("breakers.lua").read_text("utf-8"))
_MICROSECONDS = 1_000_000


class SharedBreakers:
    """One process's side of it."""

    def __init__(self, url: str, *, timeout: float = 0.04) -> None:
        """`timeout`: seconds that a call which would be a probe waits for the store at most."""
        self.on_told: OnTold = lambda _: None
        self._store = Valkey(url, timeout=timeout)
        self._looked = 0  # the newest stamp of all changes looked at
        self._stamps: dict[str, int] = {}
        self._untold: dict[str, tuple[State, float]] = {}  # by name: state, loop's time of its end
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and keep looking. A store that is away is tried again and again."""
        try:
            await self._store.connect()
        except StoreAway as away:
            log.warning("breakers_alone", reason=str(away))
        self._looking = asyncio.create_task(self._look_again())

    async def close(self) -> None:
        """Say what is left to say, as far as that is quick, and let go."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LOOK_TIMEOUT)
        await self._store.close()

    async def probe(self, name: str, lease: str, seconds: float, policy: Policy) -> Told | None:
        micros = round(seconds * _MICROSECONDS)
        return await self._run("probe", name, lease, micros, policy.permitted_probes)

    def end(self, name: str, lease: str, result: Result, *, slow: bool, policy: Policy) -> None:
        self._behind(self._end(name, lease, result, slow=slow, policy=policy))

    def tell(self, name: str, state: State, seconds: float) -> None:
        self._untold[name] = (state, asyncio.get_running_loop().time() + seconds)
        self._behind(self._tell(name))

    async def look(self) -> None:
        """Hear what changed since the last look, and repeat what could not be said before.
        Raises StoreAway."""
        while True:
            arguments = ["changes", "", self._looked, MOST_AT_ONCE, PREFIX]
            changes = await self._ask([CHANGES, CHANGES, CHANGES], arguments, LOOK_TIMEOUT)
            for name, *answer in changes:
                self._hear(_text(name), answer)
                self._looked = max(self._looked, int(answer[2]))
            if len(changes) < MOST_AT_ONCE:
                break
        for name in list(self._untold):
            await self._tell(name)

    async def _look_again(self) -> None:
        while True:
            with contextlib.suppress(StoreAway):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(
        self, name: str, lease: str, result: Result, *, slow: bool, policy: Policy
    ) -> None:
        await self._run(
            "end",
            name,
            lease,
            result.value,
            int(slow),
            policy.permitted_probes,
            repr(policy.failure_rate_threshold),
            repr(policy.slow_call_rate_threshold),
            round(policy.open_seconds * _MICROSECONDS),
        )

    async def _tell(self, name: str) -> None:
        said = self._untold.get(name)
        if said is None:
            return
        state, until = said
        left = until - asyncio.get_running_loop().time()
        if state is State.CLOSED or left > 0:
            await self._run(state.value, name, round(left * _MICROSECONDS))
        if self._untold.get(name) is said:
            del self._untold[name]

    async def _run(self, command: str, name: str, *arguments: Any) -> Told:
        keys = [f"{PREFIX}:{name}", f"{PREFIX}:{name}:probes", CHANGES]
        known = self._stamps.get(name, 0)
        return self._hear(name, await self._ask(keys, [command, name, known, *arguments]))

    async def _ask(self, keys: list[str], arguments: list[Any], wait: float | None = None) -> Any:
        try:
            return await self._store.run(_SCRIPT, keys, arguments, timeout=wait)
        except StoreError as error:
            raise StoreAway(error.code) from None

    def _hear(self, name: str, answer: Any) -> Told:
        """What the store says; on_told hears of it unless something newer is known."""
        granted, state, stamp, left = answer
        told = Told(name, State(_text(state)), int(left) / _MICROSECONDS, bool(granted))
        if int(stamp) > self._stamps.get(name, 0):
            self._stamps.pop(name, None)
            self._stamps[name] = int(stamp)  # the newest come last
            if len(self._stamps) > MOST:
                del self._stamps[next(iter(self._stamps))]
            self.on_told(told)
        return told

    def _behind(self, work: Coroutine[Any, Any, None]) -> None:
        """In the background. What the store does not hear now it hears later, or never needs to:
        a lease ends by itself."""
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(StoreAway):
        await work


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
