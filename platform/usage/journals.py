"""Which journal writes the ledger: one a kind of database."""

from __future__ import annotations

from typing import Any

from usage.ledger import Journal
from usage.sqlite import SqliteJournal


def journal_for(database: dict[str, Any]) -> Journal:
    """The journal for one of Django's DATABASES entries."""
    if "sqlite3" in database["ENGINE"]:
        return SqliteJournal(str(database["NAME"]))
    from usage.postgres import PostgresJournal  # with its driver, which SQLite does without

    return PostgresJournal(database)
