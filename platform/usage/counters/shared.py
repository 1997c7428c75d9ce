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
from pathlib import Path
from typing import Any

import structlog

from lib.ids import uuid7
from lib.valkey import Script, StoreAway, StoreError, Valkey
from usage.counters.claims import (
    NOTHING,
    Admission,
    Amounts,
    ByProvider,
    CountersAway,
    Hold,
    OnUse,
    Part,
    QuotaClaim,
    RateClaim,
    SlotClaim,
    State,
    Truth,
    Used,
    nobody_listens,
)

log = structlog.get_logger("patchbay.counters")

PREFIX = "{patchbay}:"
EPOCH = f"{PREFIX}epoch"
AWAITED = f"{PREFIX}epoch:awaited"
NOTED = f"{PREFIX}settled"
KEEP_PAST = 3 * 86_400  # seconds for which a past window's counter stays: clocks may be set back
TEND_SECONDS = 0.2
AUDIT_TURNS = 25  # every 5 s
BEAT_TURNS = 5  # every second
ASK_SECONDS = 1.0  # for what no call waits for


def _script(name: str) -> Script:
    return Script(Path(__file__).with_name(f"{name}.lua").read_text("utf-8"))


_ADMIT, _SETTLE, _EPOCH, _JOIN, _FILL = map(_script, ("admit", "settle", "epoch", "join", "fill"))


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
        self._holds: dict[str, Hold] = {}
        self._unsettled: dict[str, tuple[Hold, Sequence[Amounts]]] = {}
        self._suspects: set[str] = set()
        self._changing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
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
            if not self._unsettled or not self.ready:
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
            _write(part, arguments)
        try:
            answer = await self._run(_ADMIT, [EPOCH, self._held(self.process)], arguments)
        except CountersAway:
            if settles and not hold.parts:
                self._forget(hold)
            raise
        admission = _admission(answer, parts)
        if admission.granted:
            hold.moment = hold.moment or int(answer[1])
            hold.take(base)
            if admission.chosen >= 0:
                hold.take(options[admission.chosen])
        elif settles and not hold.parts:
            del self._holds[hold.id]
        return admission

    def settle(self, hold: Hold, used: Sequence[Amounts]) -> None:
        if not hold.settles:
            self._holds.pop(hold.id, None)
            return
        self._unsettled[hold.id] = (hold, used)
        self._send_settlement(hold, used)

    async def begin_filling(self, claim: QuotaClaim) -> tuple[int, Sequence[str]]:
        keys = [EPOCH, PREFIX + claim.key, *await self._all_held()]
        arguments = [self._epoch, claim.counter, "begin", claim.since, _expiry(claim)]
        number, ids = await self._run(_FILL, keys, arguments)
        return number, [_text(one) for one in ids]

    async def fill(self, claim: QuotaClaim, number: int, used: int, final: Sequence[str]) -> bool:
        keys = [EPOCH, PREFIX + claim.key, *await self._all_held()]
        arguments = [self._epoch, claim.counter, "end", number, used, claim.since, _expiry(claim)]
        return bool(await self._run(_FILL, keys, [*arguments, *final]))

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
        """A script's answer in this epoch. Raises CountersAway."""
        if not self._store.connected:
            raise CountersAway("no connection")
        if not self._ready and script is not _JOIN:
            raise CountersAway("the counters are not ready", 1.0)
        try:
            answer = await self._store.run(script, keys, arguments)
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
        """Nobody knows whether it was granted: whatever was is given back."""
        self._holds.pop(hold.id, None)
        self._suspects.add(hold.id)

    def _send_settlement(self, hold: Hold, used: Sequence[Amounts]) -> None:
        """Write it at once, behind what was sent before; hear of it when it is done."""
        if not self.ready:
            return
        arguments: list[str | int] = [self._epoch, hold.id, "own", *_amounts(hold.parts, used)]
        keys = [EPOCH, self._held(self.process), NOTED]
        try:
            future = self._store.call("EVALSHA", _SETTLE.sha, len(keys), *keys, *arguments)
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
        await store.call("SCRIPT", "LOAD", _SETTLE.source)  # settlements wait for nothing
        await self._adopt(store)

    async def _adopt(self, store: Valkey) -> None:
        """Join the store's epoch, beginning one where there is none. Raises StoreAway."""
        async with self._changing:
            processes = await self._truth.processes()
            arguments: list[str | int] = [store.run_id, uuid7(), self._moment(), *processes]
            found, _ = await store.run(_EPOCH, [EPOCH, AWAITED], arguments)
            epoch = _text(found)
            if epoch == self._epoch and self._ready:
                return
            answer = await store.run(_JOIN, self._joining(self.process), self._told(epoch))
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
            claims = list(_held_claims(hold.parts, hold.moment))
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
                await self._ask("SCRIPT", "LOAD", _SETTLE.source)
                self._settle_again()
            if audit:
                await self._audit()

    async def _stand_in_for_the_dead(self) -> None:
        """An epoch waits for those that may have holds; the dead have none any more."""
        if self._ready or not self._epoch:
            return
        for member in await self._ask("SMEMBERS", AWAITED):
            process = _text(member)
            if process != self.process and await self._truth.dead(process):
                await self._run(_JOIN, self._joining(process), [self._epoch, process])
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
        holding = {_text(key).removeprefix(self._held("")) for key in keys}
        return holding | {*await self._truth.processes()}

    async def _hold_ids(self, process: str) -> set[str]:
        return {_text(one) for one in await self._ask("HKEYS", self._held(process))}

    async def _settle_by_ledger(self, process: str, ids: Iterable[str]) -> None:
        ids = sorted(ids)
        if not ids:
            return
        ledger = await self._truth.used(ids)
        for id_ in ids:
            packed = await self._ask("HGET", self._held(process), id_)
            if packed is None:
                continue
            amounts = _amounts_of(await self._unpacked(process, id_), ledger.get(id_, {}))
            keys = [EPOCH, self._held(process), NOTED]
            await self._run(_SETTLE, keys, [self._epoch, id_, "other", *amounts])
        log.warning("holds_settled_by_ledger", process=process, holds=len(ids))

    async def _unpacked(self, process: str, id_: str) -> list[list[Any]]:
        """What the store keeps of a hold: metric, weight, provider, key and counter a claim."""
        found = await self._store.run(_CLAIMS, [self._held(process)], [id_])
        return list(found)


_CLAIMS = Script(
    "local answer = {} "
    "for n, one in ipairs(cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))) do "
    "answer[n] = {one[6], one[7], one[8], one[2], one[3]} end "
    "return answer"
)


def _write(part: Part, arguments: list[Any]) -> None:
    """A part as admit.lua reads it."""
    arguments.append(len(part.claims))
    for claim in part.claims:
        key = PREFIX + claim.key
        amount = claim.amount(part.amounts)
        if type(claim) is RateClaim:
            settles = int(claim.settles)
            arguments += ("r", key, claim.limit.limit, claim.width, amount, settles, part.provider)
        elif type(claim) is QuotaClaim:
            quota = claim.quota
            arguments += (
                *("q", key, claim.counter, quota.limit, amount, int(quota.hard)),
                *(claim.begins, int(claim.fresh), claim.since),
                *(_expiry(claim), quota.metric.value, claim.weight, part.provider),
            )
        elif type(claim) is SlotClaim:
            arguments += ("s", key, claim.limit.limit)


def _admission(answer: Sequence[Any], parts: Sequence[Part]) -> Admission:
    code, _, chosen, *numbers = answer
    states: list[State] = []
    missing: list[QuotaClaim] = []
    claims = [claim for part in parts for claim in part.claims]
    for place in range(len(numbers) // 3):
        left, wait, refused = numbers[3 * place : 3 * place + 3]
        if refused == 2:
            missing.append(claims[place])  # type: ignore[arg-type]
        else:
            states.append(State(claims[place], left, wait, bool(refused)))
    return Admission(code == 1, tuple(states), chosen, tuple(missing))


def _amounts(parts: Sequence[Part], used: Sequence[Amounts]) -> list[int]:
    return [
        claim.amount(actual)
        for part, actual in zip(parts, used, strict=True)
        for claim in part.claims
        if claim.settles
    ]


def _amounts_of(claims: Sequence[Sequence[Any]], ledger: ByProvider) -> list[int]:
    """Two tries at one provider claim twice of the same counter; the ledger's sum is of both."""
    amounts, seen = [], set()
    for metric, weight, provider, key, field in claims:
        actual, name = ledger.get(_text(provider), NOTHING), _text(metric)
        known = not name or (key, field) in seen
        amounts.append(0 if known else getattr(actual, name) * int(weight))
        seen.add((key, field))
    return amounts


def _held_claims(parts: Sequence[Part], moment: int) -> Iterable[tuple[Any, ...]]:
    """A hold's claims as join.lua reads them."""
    for part in parts:
        for claim in part.claims:
            key, amount = PREFIX + claim.key, claim.amount(part.amounts)
            if type(claim) is QuotaClaim:
                told = (claim.quota.metric.value, claim.weight, part.provider)
                yield ("q", key, claim.counter, amount, *told)
            elif type(claim) is RateClaim:
                if claim.settles:
                    yield ("r", key, moment // claim.width, amount, "tokens", 1, part.provider)
            else:
                yield ("s", key, 1, 1, "", 0, "")


def _expiry(claim: QuotaClaim) -> int | str:
    ends = claim.period.ends
    return "" if ends is None else int(ends) + KEEP_PAST


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
