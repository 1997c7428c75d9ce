"""The ledger in SQLite (WAL): one connection, one writer, commits made on the event loop.

A commit of a small batch takes some tens of microseconds, less than handing it to a thread
would cost. Only when another connection holds the write lock does a thread do the waiting,
and checkpoints, which sync the disk, always run in one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import orjson
import structlog

from usage import deltas
from usage.ledger import Entry, Final, Opened, StoreLost
from usage.record import ATTEMPT_COLUMNS, RECORD_COLUMNS, AttemptRecord, Record

log = structlog.get_logger("patchbay.ledger")

CHECKPOINT_SECONDS = 5.0
LOCK_MS = 1000  # how long one try, which cannot be broken off, waits for the write lock


def _insert(table: str, columns: Sequence[str]) -> str:
    marks = ", ".join("?" * len(columns))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own names
        " ON CONFLICT DO NOTHING"
    )


_RECORD = _insert("usage_usagerecord", RECORD_COLUMNS)
_ATTEMPT = _insert("usage_attempt", ATTEMPT_COLUMNS)
_OPEN = _insert("usage_opencall", ("request_id", "opened_at", "expires_at", "gateway", "record"))
_CLOSE = "DELETE FROM usage_opencall WHERE request_id = ?"
_AMONG = "WHERE request_id IN (SELECT value FROM json_each(?1))"
_BATCH = f"(SELECT * FROM usage_usagerecord {_AMONG})"  # noqa: S608 - our own names
_SINGLE_CALLS = deltas.insert_calls(_BATCH, None, deltas.SQLITE)
_CALLS = deltas.insert_calls(_BATCH, "usage_attempt", deltas.SQLITE)
_ATTEMPTS = deltas.insert_attempts(_BATCH, "usage_attempt", deltas.SQLITE)


class SqliteJournal:
    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._checkpoints: asyncio.Task[None] | None = None

    def write_at_once(self, entries: Sequence[Entry]) -> bool:
        self._keep_checkpointing()
        try:
            self._write(entries, wait=False)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise StoreLost(str(error)) from None
        return True

    async def write(self, entries: Sequence[Entry]) -> None:
        self._keep_checkpointing()
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, entries, wait=True))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A thread cannot be stopped, and until it ends the connection is its own.
            await asyncio.wait([writing])
            if writing.exception() is not None:
                raise
        except sqlite3.OperationalError as error:
            raise StoreLost(str(error)) from None

    async def close(self) -> None:
        if self._checkpoints:
            self._checkpoints.cancel()
            self._checkpoints = None
        if self._connection:
            self._connection.close()
            self._connection = None

    def _write(self, entries: Sequence[Entry], *, wait: bool) -> None:
        connection = self._connect()
        if wait:
            connection.execute(f"PRAGMA busy_timeout={LOCK_MS}")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                finals = [entry for entry in entries if isinstance(entry, Final)]
                if not _write_all(connection, entries, finals):
                    connection.execute("ROLLBACK")
                    connection.execute("BEGIN IMMEDIATE")
                    _write_all(connection, entries, _not_yet_written(connection, finals))
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise
        finally:
            if wait:
                connection.execute("PRAGMA busy_timeout=0")

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=0
            )
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA wal_autocheckpoint=0")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _keep_checkpointing(self) -> None:
        if self._checkpoints is None:
            self._checkpoints = asyncio.get_running_loop().create_task(self._checkpoint())

    async def _checkpoint(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            await asyncio.to_thread(_checkpoint, self._path)


def _checkpoint(path: str) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error as error:  # busy, or away: the next round does it
        log.info("checkpoint_put_off", reason=str(error))


def _write_all(
    connection: sqlite3.Connection, entries: Sequence[Entry], finals: Sequence[Final]
) -> bool:
    """Whether the `finals` are all new. If not, it has to be taken back: a call that has its
    row must not be summed once more."""
    opened = [_open_row(entry) for entry in entries if isinstance(entry, Opened)]
    if opened:
        connection.executemany(_OPEN, opened)
    if finals:
        rows = [_record_row(final.record) for final in finals]
        if connection.executemany(_RECORD, rows).rowcount != len(rows):
            return False
        attempts = [_attempt_row(attempt) for final in finals for attempt in final.attempts]
        if attempts:
            connection.executemany(_ATTEMPT, attempts)
        _add_deltas(connection, finals, has_attempts=bool(attempts))
    closed = [(entry.record.request_id,) for entry in entries if _closes(entry)]
    if closed:
        connection.executemany(_CLOSE, closed)
    return True


def _closes(entry: Entry) -> bool:
    return isinstance(entry, Final) and entry.was_open


def _add_deltas(
    connection: sqlite3.Connection, finals: Sequence[Final], *, has_attempts: bool
) -> None:
    ids = (_ids(finals),)
    if has_attempts:
        connection.execute(_CALLS, ids)
        connection.execute(_ATTEMPTS, ids)
    else:
        connection.execute(_SINGLE_CALLS, ids)


def _not_yet_written(connection: sqlite3.Connection, finals: Sequence[Final]) -> list[Final]:
    """Those whose call has no row yet, each call once."""
    statement = f"SELECT request_id FROM usage_usagerecord {_AMONG}"  # noqa: S608 - our own names
    written = {row[0] for row in connection.execute(statement, [_ids(finals)])}
    first = {final.record.request_id: final for final in reversed(finals)}
    return [final for request_id, final in first.items() if request_id not in written]


def _ids(finals: Sequence[Final]) -> str:
    return orjson.dumps([final.record.request_id for final in finals]).decode()


def _open_row(entry: Opened) -> tuple[Any, ...]:
    record = entry.record
    return (
        record.request_id,
        _moment(record.created_at),
        _moment(dt.datetime.fromtimestamp(entry.expires_at, dt.UTC)),
        entry.gateway,
        orjson.dumps(record.as_document()).decode(),
    )


def _record_row(record: Record) -> tuple[Any, ...]:
    request_id, created_at, *rest = record.row()
    return (request_id, _moment(created_at), *rest)


def _attempt_row(attempt: AttemptRecord) -> tuple[Any, ...]:
    request_id, number, created_at, *rest = attempt.row()
    return (request_id, number, _moment(created_at), *rest)


def _moment(moment: dt.datetime) -> str:
    """As Django stores it: naive UTC text."""
    if moment.tzinfo is not dt.UTC:
        moment = moment.astimezone(dt.UTC)
    return moment.isoformat(" ").removesuffix("+00:00")
