"""A ledger of the tests' own that several processes share: what calls used, in one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from usage.counters.claims import Amounts, ByProvider, Part, QuotaClaim

_TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS rows (
    id TEXT, provider TEXT, requests INT, tokens INT, cost INT, credits INT, bytes INT,
    PRIMARY KEY (id, provider)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (counter TEXT, id TEXT, amount INT);
CREATE INDEX IF NOT EXISTS by_counter ON counted (counter, amount);
"""
Row = tuple[str, Mapping[str, Amounts], Mapping[str, int]]


def _counter(claim: QuotaClaim) -> str:
    return f"{claim.key}:{claim.counter}"


class SharedBook:
    """As stage.Book, of processes that all live. A row is durable when `write` returns."""

    def __init__(self, file: Path, processes: Sequence[str]) -> None:
        self._alive = processes
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._database = sqlite3.connect(
            file, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._database.executescript(_TABLES)
        self._database.execute("PRAGMA synchronous = OFF")  # no machine dies here

    async def write(self, id_: str, parts: Sequence[Part], used: Sequence[Amounts]) -> None:
        """A call's row, once; it counts for what the call had claimed of."""
        by_provider: dict[str, Amounts] = {}
        counted: dict[str, int] = defaultdict(int)
        for part, actual in zip(parts, used, strict=True):
            by_provider[part.provider] = by_provider.get(part.provider, Amounts()).plus(actual)
            for claim in part.claims:
                if isinstance(claim, QuotaClaim):
                    counted[_counter(claim)] += claim.amount(actual)
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(((id_, by_provider, counted), done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await done

    async def sum(self, claim: QuotaClaim, among: Sequence[str]) -> tuple[int, Sequence[str]]:
        return await self._run(self._sum, _counter(claim), among)  # type: ignore[no-any-return]

    async def used(self, request_ids: Sequence[str]) -> Mapping[str, ByProvider]:
        return await self._run(self._used, request_ids)  # type: ignore[no-any-return]

    async def note_threshold(self, claim: QuotaClaim, threshold: int, used: int) -> None: ...

    async def beat(self) -> None: ...

    async def leave(self) -> None: ...

    async def processes(self) -> Sequence[str]:
        return self._alive

    async def dead(self, process: str) -> bool:
        return False

    async def forget(self, process: str) -> None: ...

    def total(self, claim: QuotaClaim) -> int:
        return self._sum(_counter(claim), ())[0]

    def rows(self) -> int:
        [count] = self._database.execute("SELECT count(DISTINCT id) FROM rows").fetchone()
        return int(count)

    def begin_with(self, claim: QuotaClaim, used: int) -> None:
        """Of this counter nothing is known but that so much was used."""
        self._database.execute("DELETE FROM counted WHERE counter = ?", [_counter(claim)])
        self._database.execute("INSERT INTO counted VALUES (?, '', ?)", [_counter(claim), used])

    def close(self) -> None:
        self._thread.shutdown()
        self._database.close()

    async def _run(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._run(self._write_all, [row for row, _ in batch])
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _write_all(self, rows: Iterable[Row]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        for id_, by_provider, counted in rows:
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(id_, provider, *amounts) for provider, amounts in by_provider.items()],
            )
            self._database.executemany(
                "INSERT INTO counted VALUES (?, ?, ?)",
                [(counter, id_, amount) for counter, amount in counted.items()],
            )
        self._database.execute("COMMIT")

    def _sum(self, counter: str, among: Sequence[str]) -> tuple[int, Sequence[str]]:
        self._database.execute("BEGIN")
        try:
            [total] = self._database.execute(
                "SELECT coalesce(sum(amount), 0) FROM counted WHERE counter = ?", [counter]
            ).fetchone()
            return int(total), [one for one in among if self._row(one)]
        finally:
            self._database.execute("COMMIT")

    def _used(self, request_ids: Sequence[str]) -> Mapping[str, ByProvider]:
        found = {one: self._row(one) for one in request_ids}
        return {one: row for one, row in found.items() if row}

    def _row(self, id_: str) -> ByProvider:
        rows = self._database.execute("SELECT * FROM rows WHERE id = ?", [id_])
        return {provider: Amounts(*amounts) for _, provider, *amounts in rows}
