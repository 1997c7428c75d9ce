"""Whatever way a call that reached a provider ends, exactly one final row says how."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence

import pytest

from lib.problems import DeadlineExceeded, Forbidden, QuotaExceeded, Unavailable, UpstreamTimeout
from providers.call import Usage
from tests.clocks import ManualClock
from tests.loops import on_loop
from tests.usage.entries import attempt, granted, record
from usage import ledger as ledger_module
from usage.ledger import Entry, Final, Ledger, Opened, StoreLost
from usage.record import Record
from usage.reservation import HUNG_UP, HungUp, Reservation

USAGE = Usage(input_tokens=10, output_tokens=20, cached_tokens=3, reasoning_tokens=4, units=5)


class Memory:
    """A journal that copies what it is given at the moment of the commit."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    def write_at_once(self, entries: Sequence[Entry]) -> bool:
        return False

    async def write(self, entries: Sequence[Entry]) -> None:
        await self.gate.wait()
        if self.away:
            raise StoreLost("away")
        self.entries += copy.deepcopy(list(entries))

    async def close(self) -> None: ...

    @property
    def finals(self) -> list[Final]:
        return [entry for entry in self.entries if isinstance(entry, Final)]

    @property
    def row(self) -> Record:
        (final,) = self.finals
        return final.record


class Case:
    def __init__(self) -> None:
        self.journal = Memory()
        self.clock = ManualClock()
        self.reservation = Reservation(
            Ledger(self.journal),
            self.clock,
            record(status=0, code=""),
            self.clock.monotonic(),
            granted(),
        )
        self.reservation.attempts.append(attempt(self.reservation.record.request_id, 1))


Body = Callable[[Case], Awaitable[None]]


async def leave(body: Body, error: type[BaseException] | None = None) -> Case:
    case = Case()
    if error is None:
        async with case.reservation:
            await body(case)
    else:
        with pytest.raises(error):
            async with case.reservation:
                await body(case)
    return case


@on_loop
async def test_a_settled_call_is_written_once_with_all_it_used() -> None:
    async def body(case: Case) -> None:
        reservation = case.reservation
        reservation.attempts.append(attempt(reservation.record.request_id, 2))
        case.clock.advance(1.2346)
        reservation.use(USAGE, cost=77, estimate="cut")
        await reservation.settle(status=200, code="ok")
        assert len(case.journal.finals) == 1

    case = await leave(body)
    row = case.journal.row
    assert (row.status, row.code, row.charge, row.cost, row.estimate) == (200, "ok", 77, 77, "cut")
    assert (row.input_tokens, row.output_tokens, row.cached_tokens) == (10, 20, 3)
    assert (row.reasoning_tokens, row.units) == (4, 5)
    assert (row.attempts, row.latency_ms) == (2, 1235)
    assert len(case.journal.finals[0].attempts) == 2 and not case.journal.finals[0].was_open


@pytest.mark.parametrize("error", [HungUp, UpstreamTimeout, RuntimeError, None])
@on_loop
async def test_a_call_that_reached_no_provider_leaves_no_row(
    error: type[BaseException] | None,
) -> None:
    async def body(case: Case) -> None:
        case.reservation.attempts.clear()
        if error:
            raise error

    assert (await leave(body, error)).journal.entries == []


@pytest.mark.parametrize(
    ("verdicts", "kept"),
    [(["ok"], 0), (["timeout"], 1), (["timeout", "ok"], 2), (["hung_up"], 1)],
)
@on_loop
async def test_attempts_are_kept_unless_the_final_row_tells_the_only_one(
    verdicts: list[str], kept: int
) -> None:
    async def body(case: Case) -> None:
        case.reservation.attempts[:] = [
            attempt("r", number, verdict=verdict) for number, verdict in enumerate(verdicts, 1)
        ]
        await case.reservation.settle(status=200, code="ok")

    case = await leave(body)
    assert len(case.journal.finals[0].attempts) == kept
    assert case.journal.row.attempts == len(verdicts)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UpstreamTimeout(), 504, "upstream_timeout"),
        (QuotaExceeded(status=402), 402, "quota_exceeded"),
        (Forbidden(code="insufficient_scope"), 403, "insufficient_scope"),
        (Unavailable(code="circuit_open"), 503, "circuit_open"),
        (HungUp(), HUNG_UP, "hung_up"),
        (RuntimeError("canary"), 500, "internal_error"),
        (asyncio.CancelledError(), 503, "shutting_down"),
        (KeyboardInterrupt(), 500, "internal_error"),
    ],
    ids=lambda value: getattr(value, "code", type(value).__name__),
)
def test_every_error_writes_one_row_that_names_it(
    error: BaseException, status: int, code: str
) -> None:
    async def scenario() -> Case:
        case = Case()
        try:
            async with case.reservation:
                raise error
        except BaseException as raised:
            assert raised is error
        return case

    row = asyncio.run(scenario()).journal.row
    assert (row.status, row.code, row.charge) == (status, code, 0)


@on_loop
async def test_a_call_that_forgets_to_settle_is_written_all_the_same() -> None:
    async def body(case: Case) -> None:
        case.reservation.use(USAGE, cost=5)

    case = await leave(body)
    assert (case.journal.row.status, case.journal.row.code) == (500, "internal_error")
    assert case.journal.row.charge == 5


@on_loop
async def test_a_settlement_keeps_what_the_record_says_already() -> None:
    async def body(case: Case) -> None:
        case.reservation.record.status, case.reservation.record.code = 207, "partly"
        await case.reservation.settle()

    row = (await leave(body)).journal.row
    assert (row.status, row.code) == (207, "partly")


@pytest.mark.parametrize("error", [HungUp, UpstreamTimeout, RuntimeError, asyncio.CancelledError])
@on_loop
async def test_an_error_after_the_settlement_changes_nothing(error: type[BaseException]) -> None:
    async def body(case: Case) -> None:
        await case.reservation.settle(status=200, code="ok")
        raise error

    case = await leave(body, error)
    assert (case.journal.row.status, case.journal.row.code) == (200, "ok")


@on_loop
async def test_a_call_that_ran_out_of_time_hears_that_though_its_row_cannot_be_written() -> None:
    async def body(case: Case) -> None:
        case.journal.gate.clear()
        case.reservation.deadline = asyncio.get_running_loop().time()
        raise DeadlineExceeded

    case = await leave(body, DeadlineExceeded)
    case.journal.gate.set()
    await case.reservation.ledger.close()
    assert (case.journal.row.status, case.journal.row.code) == (504, "deadline_exceeded")


@on_loop
async def test_an_opened_call_keeps_its_estimate_until_it_ends() -> None:
    async def body(case: Case) -> None:
        await case.reservation.open(USAGE, 40, expires_in=90)
        (waiting,) = case.journal.entries
        assert isinstance(waiting, Opened)
        assert waiting.expires_at == case.clock.now() + 90
        assert (waiting.record.charge, waiting.record.output_tokens) == (40, 20)
        case.reservation.use(Usage(output_tokens=2), cost=4)
        await case.reservation.settle(status=200, code="ok")

    case = await leave(body)
    assert case.journal.finals[0].was_open
    assert (case.journal.row.charge, case.journal.row.output_tokens) == (4, 2)


@pytest.mark.parametrize("error", [HungUp, RuntimeError, UpstreamTimeout])
@on_loop
async def test_an_opened_call_is_closed_by_any_end(error: type[BaseException]) -> None:
    async def body(case: Case) -> None:
        await case.reservation.open(USAGE, 40, expires_in=90)
        raise error

    case = await leave(body, error)
    assert case.journal.finals[0].was_open
    assert case.journal.row.charge == 40


@on_loop
async def test_a_client_that_leaves_while_the_call_is_opened_leaves_nothing_open() -> None:
    """The open row gets there although nobody waits for it; the final one must close it."""
    case = Case()
    case.journal.gate.clear()

    async def call() -> None:
        async with case.reservation:
            await case.reservation.open(USAGE, 40, expires_in=90)

    task = asyncio.create_task(call())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    case.journal.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(entry) for entry in case.journal.entries] == [Opened, Final]
    assert case.journal.finals[0].was_open


@on_loop
async def test_a_client_that_leaves_while_the_call_is_settled_is_billed_once() -> None:
    case = Case()
    case.journal.gate.clear()

    async def call() -> None:
        async with case.reservation:
            case.reservation.use(USAGE, cost=5)
            await case.reservation.settle(status=200, code="ok")

    task = asyncio.create_task(call())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    case.journal.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await case.reservation.ledger.close()
    assert (case.journal.row.status, case.journal.row.charge) == (200, 5)


@on_loop
async def test_a_store_that_is_away_is_the_answer_whatever_else_went_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.05)

    async def body(case: Case) -> None:
        case.journal.away = True
        raise HungUp

    case = await leave(body, Unavailable)
    assert case.journal.entries == []


@on_loop
async def test_a_settlement_the_store_refuses_is_not_tried_again_as_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "PATIENCE", 0.05)

    async def body(case: Case) -> None:
        case.journal.away = True
        try:
            await case.reservation.settle(status=200, code="ok")
        finally:
            case.journal.away = False

    case = await leave(body, Unavailable)
    assert case.journal.entries == []


@on_loop
async def test_whether_a_row_may_still_come_is_known_until_it_has_or_will_not() -> None:
    journal = Memory()
    journal.gate.clear()
    ledger, entry = Ledger(journal), Final(record())
    now = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await ledger.commit(entry, until=now + 0.01)
    assert ledger.is_writing(entry)
    journal.gate.set()
    await ledger.close()
    assert not ledger.is_writing(entry)
    assert journal.row == entry.record
