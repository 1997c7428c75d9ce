"""The ledger in PostgreSQL: one connection, one statement for all final rows of a batch.

Rows travel as one JSON parameter that the server spreads into the table's own columns, so a
batch of five hundred costs hardly more round trips than one row. The same statement sums just
the rows that it inserted: those of a call that had its row already add nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
from collections.abc import Sequence
from typing import Any

import orjson
import psycopg

from usage import deltas
from usage.ledger import Entry, Final, Opened, StoreLost
from usage.record import ATTEMPT_COLUMNS, RECORD_COLUMNS

ANSWER_SECONDS = 3.0  # after which a server that says nothing is taken for gone


def _insert(table: str, columns: Sequence[str], rows: str = "") -> str:
    names = ", ".join(columns)
    rows = rows or f"json_populate_recordset(NULL::{table}, %s::json)"
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM {rows} ON CONFLICT DO NOTHING"  # noqa: S608


# What is left of Django's OPTIONS is the driver's: how to use TLS, above all.
_DJANGOS_OWN = {"pool", "isolation_level", "assume_role", "server_side_binding"}
_NEW = f"WITH new AS ({_insert('usage_usagerecord', RECORD_COLUMNS)} RETURNING *)"
_RECORDS = f"{_NEW} {deltas.insert_calls('new', None, deltas.POSTGRES)}"
# Also where some of the calls have attempts to tell.
_ATTEMPTS_OF_NEW = (
    "(SELECT a.* FROM json_populate_recordset(NULL::usage_attempt, %s::json) AS a"
    " JOIN new ON new.request_id = a.request_id) AS told"
)
_RECORDS_AND_ATTEMPTS = (
    f"{_NEW}, tried AS"
    f" ({_insert('usage_attempt', ATTEMPT_COLUMNS, _ATTEMPTS_OF_NEW)} RETURNING *),"
    f" summed AS ({deltas.insert_attempts('new', 'tried', deltas.POSTGRES)})"
    f" {deltas.insert_calls('new', 'tried', deltas.POSTGRES)}"
)
_OPEN = _insert("usage_opencall", ("request_id", "opened_at", "expires_at", "gateway", "record"))
_CLOSE = "DELETE FROM usage_opencall WHERE request_id = ANY(%s)"


class PostgresJournal:
    def __init__(self, database: dict[str, Any]) -> None:
        options = database.get("OPTIONS", {})
        self._parameters = {
            **{name: value for name, value in options.items() if name not in _DJANGOS_OWN},
            "dbname": database["NAME"],
            "user": database["USER"] or None,
            "password": database["PASSWORD"] or None,
            "host": database["HOST"] or None,
            "port": database["PORT"] or None,
            "connect_timeout": 3,
            "application_name": "patchbay-ledger",
        }
        self._connection: psycopg.AsyncConnection[Any] | None = None

    def write_at_once(self, entries: Sequence[Entry]) -> bool:
        return False

    async def write(self, entries: Sequence[Entry]) -> None:
        try:
            connection = await self._connect()
            # Called off, the driver first asks the server to cancel, and waits: for good where
            # the network swallows it all. A socket that ends it believes at once.
            patience = asyncio.get_running_loop().call_later(ANSWER_SECONDS, _hang_up, connection)
            try:
                # What goes to the server before its next Sync, which ends the pipeline, is one
                # transaction (PostgreSQL, "Pipeline Mode"); to name it costs as much as the rows.
                async with connection.pipeline():
                    for statement, parameters in _statements(entries):
                        await connection.execute(statement, parameters)
            finally:
                patience.cancel()
        except (psycopg.OperationalError, psycopg.InternalError) as error:
            await self._drop()  # internal: read-only after a fail-over, say
            raise StoreLost(type(error).__name__) from None
        except BaseException:
            await self._drop()  # a broken-off exchange must not be read by the next batch
            raise

    async def close(self) -> None:
        await self._drop()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                autocommit=True, **self._parameters
            )
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    gone_already = contextlib.suppress(OSError, psycopg.Error)
    with gone_already, socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


def _statements(entries: Sequence[Entry]) -> list[tuple[str, list[Any]]]:
    finals = [entry for entry in entries if isinstance(entry, Final)]
    opened = [_open_row(entry) for entry in entries if isinstance(entry, Opened)]
    statements: list[tuple[str, list[Any]]] = []
    if opened:
        statements.append((_OPEN, [_json(opened)]))
    if finals:
        records = _json([final.record for final in finals])
        attempts = [attempt for final in finals for attempt in final.attempts]
        closed = [final.record.request_id for final in finals if final.was_open]
        if attempts:
            statements.append((_RECORDS_AND_ATTEMPTS, [records, _json(attempts)]))
        else:
            statements.append((_RECORDS, [records]))
        if closed:
            statements.append((_CLOSE, [closed]))
    return statements


def _open_row(entry: Opened) -> dict[str, Any]:
    return {
        "request_id": entry.record.request_id,
        "opened_at": entry.record.created_at,
        "expires_at": dt.datetime.fromtimestamp(entry.expires_at, dt.UTC),
        "gateway": entry.gateway,
        "record": entry.record.as_document(),
    }


def _json(rows: Sequence[Any]) -> str:
    """orjson writes our dataclasses field by field, under their columns' names."""
    return orjson.dumps(rows).decode()
