"""The counters in Redis or Valkey, shared by all gateways: one script a decision, in one place.

All keys share the hash tag {patchbay}, so that one script may decide on all of them, also on a
cluster. The database is the truth and this is a fast view of it: a store that lost what it knew
begins a new *epoch* (epoch.lua), to which every process tells its holds again (join.lua), and
whose counters are filled from the ledger as they are asked for (fill.lua).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from lib.ids import uuid7
from lib.valkey import Script, StoreAway, StoreError, Valkey
from usage.counters.claims import (
    Admission,
    Amounts,
    Claim,
    CountersAway,
    Hold,
    LastWord,
    OnUse,
    Part,
    QuotaClaim,
    RateClaim,
    Truth,
    Used,
    nobody_listens,
)
from usage.counters.last_words import LastWords
from usage.counters.metrics import DEGRADED
from usage.counters.scripts import (
    ADMIT,
    BEGIN,
    CLAIMS,
    FILL,
    JOIN,
    PREFIX,
    SETTLE,
    admission_of,
    amounts_by_ledger,
    amounts_of,
    expiry,
    held_claims,
    text,
    write,
)

log = structlog.get_logger("patchbay.counters")

EPOCH = f"{PREFIX}epoch"
AWAITED = f"{PREFIX}epoch:awaited"
NOTED = f"{PREFIX}settled"
TEND_SECONDS = 0.2
AUDIT_TURNS = 25  # every 5 s
BEAT_TURNS = 5  # every second
ASK_SECONDS = 1.0  # for what no call waits for, or once a window


class SharedCounters:
    """One process's side of the shared counters. `process` is its name among the others."""

    def __init__(
        self,
        url: str,
        process: str,
        truth: Truth,
        *,
        timeout: float = 0.04,
        moment: Callable[[], int] | None = None,
    ) -> None:
        """`timeout`: seconds a call waits for the store at most. `moment`: µs; without it the
        store's own clock counts."""
        self.on_use: OnUse = nobody_listens
        self.process = process
        self._moment = moment or (lambda: 0)
        self._truth = truth
        self._store = Valkey(url, timeout=timeout, on_connect=self._connected)
        self._epoch = ""
        self._ready = False
        self._words = LastWords()
        self._holds: dict[str, Hold] = {}
        self._unsettled: dict[str, tuple[Hold, Sequence[Amounts]]] = {}
        self._suspects: set[str] = set()
        self._changing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return self._reachable and not self._store.late

    @property
    def _reachable(self) -> bool:
        return self._ready and self._store.connected

    async def start(self) -> None:
        """Connect, and keep things in order. A store that is away is tried again and again."""
        for begin in (self._truth.beat, self._store.connect):
            try:
                await begin()
            except StoreAway as away:
                log.warning("counters_away", reason=str(away))
        self._tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._tend())]

    async def close(self) -> None:
        """Settle what can be settled, then let go."""
        for task in self._tasks:
            task.cancel()
            await asyncio.wait([task])
        for _ in range(20):
            if not self._unsettled or not self._reachable:
                break
            self._settle_again()
            await asyncio.sleep(0.02)
        if not self._holds:
            with contextlib.suppress(StoreAway):
                await self._truth.leave()
        await self._store.close()

    async def admit(self, hold: Hold, base: Part, options: Sequence[Part] = ()) -> Admission:
        parts = (base, *options)
        settles = any(claim.settles for part in parts for claim in part.claims)
        if settles:
            self._holds[hold.id] = hold  # before it is sent: it may be granted unheard
        name = hold.id if settles else ""
        arguments: list[str | int] = [self._epoch, self._moment(), name, len(parts)]
        for part in parts:
            write(part, arguments)
        used = self._words.used
        try:
            answer = await self._run(ADMIT, [EPOCH, self._held(self.process)], arguments)
        except CountersAway:
            if settles and not hold.parts:
                self._forget(hold)
            raise
        admission = admission_of(answer, parts)
        self._words.hear(admission.states, used)
        if admission.granted:
            hold.moment = hold.moment or int(answer[1])
            hold.take(base)
            if admission.chosen >= 0:
                hold.take(options[admission.chosen])
        elif settles and not hold.parts:
            del self._holds[hold.id]
        return admission

    def last_words(self, claims: Sequence[Claim]) -> Iterable[LastWord]:
        return self._words.use(claims)

    def count_unheard(self, part: Part) -> None:
        requests = [one for one in part.claims if type(one) is RateClaim and not one.settles]
        if not requests:
            return
        keys = [EPOCH, self._held(self.process)]
        arguments: list[str | int] = [self._epoch, self._moment(), "", 1]
        write(Part(requests, part.amounts), arguments)
        with contextlib.suppress(StoreAway):
            self._store.call("EVALSHA", ADMIT.sha, len(keys), *keys, *arguments)

    def settle(self, hold: Hold, used: Sequence[Amounts]) -> None:
        if not hold.settles:
            self._holds.pop(hold.id, None)
            return
        self._unsettled[hold.id] = (hold, used)
        self._send_settlement(hold, used)

    async def begin_filling(self, claim: QuotaClaim) -> tuple[int, Sequence[str]]:
        keys = [EPOCH, PREFIX + claim.key, *await self._all_held()]
        arguments = [self._epoch, claim.counter, "begin", claim.since, expiry(claim)]
        number, ids = await self._run(FILL, keys, arguments)
        return number, [text(one) for one in ids]

    async def fill(self, claim: QuotaClaim, number: int, used: int, final: Sequence[str]) -> bool:
        keys = [EPOCH, PREFIX + claim.key, *await self._all_held()]
        arguments = [self._epoch, claim.counter, "end", number, used, claim.since, expiry(claim)]
        return bool(await self._run(FILL, keys, [*arguments, *final]))

    async def drop(self, claim: QuotaClaim) -> None:
        key = PREFIX + claim.key
        await self._ask("HINCRBY", key, f"{claim.counter}:changes", 1)  # ends what fillings run
        await self._ask("HSETNX", key, f"{claim.counter}:used", 0)
        await self._ask("HSET", key, f"{claim.counter}:since", -1)

    async def read(self, claims: Sequence[QuotaClaim]) -> list[Used | None]:
        return list(await asyncio.gather(*map(self._read, claims)))

    async def _read(self, claim: QuotaClaim) -> Used | None:
        fields = [f"{claim.counter}:{name}" for name in ("used", "reserved", "since")]
        used, reserved, since = await self._ask("HMGET", PREFIX + claim.key, *fields)
        if used is None or int(since) < claim.since:
            return None
        return Used(int(used), int(reserved or 0))

    async def _run(self, script: Script, keys: list[str], arguments: list[Any]) -> Any:
        """A script's answer in this epoch. Raises CountersAway. Filling goes through all holds
        there are, and is waited for."""
        if not self._store.connected:
            raise CountersAway("no connection")
        if not self._ready and script is not JOIN:
            raise CountersAway("the counters are not ready", 1.0)
        if self._store.late:
            raise CountersAway("the store is late", late=True)
        try:
            patience = ASK_SECONDS if script is FILL else None
            answer = await self._store.run(script, keys, arguments, timeout=patience)
        except (StoreAway, StoreError) as error:
            raise CountersAway(str(error)) from None
        kind = answer[0] if isinstance(answer, list) and answer else answer
        if kind == b"epoch":
            self._lost()
            raise CountersAway("the store lost what it knew", 1.0)
        if kind == b"gathering":
            self._ready = False
            raise CountersAway("some processes have yet to tell their holds", 1.0)
        return answer

    async def _ask(self, *command: Any) -> Any:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await self._store.call(*command)
        except (StoreAway, StoreError, TimeoutError) as error:
            raise CountersAway(str(error)) from None

    def _held(self, process: str) -> str:
        return f"{PREFIX}holds:{process}"

    async def _all_held(self) -> list[str]:
        return [self._held(process) for process in await self._truth.processes()]

    def _forget(self, hold: Hold) -> None:
        """Nobody knows whether it was granted: whatever was is given back. What is sent now is
        done after that; where it cannot be sent, the audit finds it."""
        self._holds.pop(hold.id, None)
        self._suspects.add(hold.id)
        if self._reachable:
            keys = [EPOCH, self._held(self.process), NOTED]
            with contextlib.suppress(StoreAway):
                self._store.call(
                    "EVALSHA", SETTLE.sha, len(keys), *keys, self._epoch, hold.id, "own"
                )

    def _send_settlement(self, hold: Hold, used: Sequence[Amounts]) -> None:
        """Write it at once, behind what was sent before; hear of it when it is done."""
        if not self._reachable:
            return
        arguments: list[str | int] = [self._epoch, hold.id, "own", *amounts_of(hold.parts, used)]
        keys = [EPOCH, self._held(self.process), NOTED]
        try:
            future = self._store.call("EVALSHA", SETTLE.sha, len(keys), *keys, *arguments)
        except StoreAway:
            return
        future.add_done_callback(lambda done: self._settled(hold, done))

    def _settled(self, hold: Hold, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            return  # it is sent again
        if done.result() == b"epoch":
            self._lost()
            return
        self._unsettled.pop(hold.id, None)
        self._holds.pop(hold.id, None)
        quotas = [one for part in hold.parts for one in part.claims if type(one) is QuotaClaim]
        for claim, used in zip(quotas, done.result(), strict=False):
            if used >= 0:
                self.on_use(claim, used)

    def _settle_again(self) -> None:
        for hold, used in list(self._unsettled.values()):
            self._send_settlement(hold, used)

    def _lost(self) -> None:
        if self._epoch:
            log.warning("counters_lost")
        self._epoch, self._ready = "", False

    async def _connected(self, store: Valkey) -> None:
        """On each new connection: is it the server we know? Else all must be told again."""
        await store.call("SCRIPT", "LOAD", SETTLE.source)  # settlements wait for nothing
        await self._adopt(store)

    async def _adopt(self, store: Valkey) -> None:
        """Join the store's epoch, beginning one where there is none. Raises StoreAway."""
        async with self._changing:
            processes = await self._truth.processes()
            self._words.gateways = len(processes)
            arguments: list[str | int] = [store.run_id, uuid7(), self._moment(), *processes]
            found, _ = await store.run(BEGIN, [EPOCH, AWAITED], arguments)
            epoch = text(found)
            if epoch == self._epoch and self._ready:
                return
            answer = await store.run(JOIN, self._joining(self.process), self._told(epoch))
            if answer == b"epoch":
                return
            before, self._epoch, self._ready = self._epoch, epoch, bool(answer)
            if epoch != before or self._ready:
                log.info("counters_joined", epoch=epoch, ready=self._ready, holds=len(self._holds))

    def _joining(self, process: str) -> list[str]:
        return [EPOCH, AWAITED, self._held(process)]

    def _told(self, epoch: str) -> list[Any]:
        told: list[Any] = [epoch, self.process]
        for hold in self._holds.values():
            claims = list(held_claims(hold.parts, hold.moment))
            if claims:
                told += [hold.id, len(claims), *(word for claim in claims for word in claim)]
        return told

    async def _beat(self) -> None:
        """On its own: whatever else takes its time, this process lives."""
        while True:
            await asyncio.sleep(TEND_SECONDS * BEAT_TURNS)
            with contextlib.suppress(StoreAway):
                await self._truth.beat()

    async def _tend(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(TEND_SECONDS)
            turn += 1
            DEGRADED.set(not self.ready)
            try:
                if not self._store.connected:
                    continue
                await self._put_in_order(audit=turn % AUDIT_TURNS == 0)
            except (StoreAway, StoreError, CountersAway) as error:
                log.debug("counters_untended", reason=str(error))
            except Exception:
                log.exception("counters_untended")

    async def _put_in_order(self, *, audit: bool) -> None:
        if not self._ready:
            await self._adopt(self._store)
            await self._stand_in_for_the_dead()
        if self._ready:
            if self._unsettled:
                await self._ask("SCRIPT", "LOAD", SETTLE.source)
                self._settle_again()
            if audit:
                await self._audit()

    async def _stand_in_for_the_dead(self) -> None:
        """An epoch waits for those that may have holds; the dead have none any more."""
        if self._ready or not self._epoch:
            return
        for member in await self._ask("SMEMBERS", AWAITED):
            process = text(member)
            if process != self.process and await self._truth.dead(process):
                await self._run(JOIN, self._joining(process), [self._epoch, process])
        self._ready = await self._ask("HGET", EPOCH, "ready") == b"1"

    async def _audit(self) -> None:
        """What nobody will settle: holds of ours that we do not know (granted when we had given
        up waiting), and all that dead processes left."""
        unknown = await self._hold_ids(self.process) - self._holds.keys()
        await self._settle_by_ledger(self.process, unknown & self._suspects)
        self._suspects = unknown
        for process in sorted(await self._holders() - {self.process}):
            if await self._truth.dead(process):
                await self._settle_by_ledger(process, await self._hold_ids(process))
                await self._truth.forget(process)

    async def _holders(self) -> set[str]:
        """Processes that have holds, or may have."""
        keys = await self._ask("KEYS", self._held("*"))
        holding = {text(key).removeprefix(self._held("")) for key in keys}
        processes = await self._truth.processes()
        self._words.gateways = len(processes)
        return holding | {*processes}

    async def _hold_ids(self, process: str) -> set[str]:
        return {text(one) for one in await self._ask("HKEYS", self._held(process))}

    async def _settle_by_ledger(self, process: str, ids: Iterable[str]) -> None:
        ids = sorted(ids)
        if not ids:
            return
        ledger = await self._truth.used(ids)
        for id_ in ids:
            packed = await self._ask("HGET", self._held(process), id_)
            if packed is None:
                continue
            amounts = amounts_by_ledger(await self._unpacked(process, id_), ledger.get(id_, {}))
            keys = [EPOCH, self._held(process), NOTED]
            await self._run(SETTLE, keys, [self._epoch, id_, "other", *amounts])
        log.warning("holds_settled_by_ledger", process=process, holds=len(ids))

    async def _unpacked(self, process: str, id_: str) -> list[list[Any]]:
        """What the store keeps of a hold: metric, weight, provider, key and counter a claim."""
        found = await self._store.run(CLAIMS, [self._held(process)], [id_])
        return list(found)
