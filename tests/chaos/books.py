"""The oracle: what the clients saw and what the sandbox wrote down, against the ledger.

The two witnesses know nothing of the ledger: the sandbox is a process of its own that syncs
its journal to the disk, and the clients keep the bytes themselves.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.chaos.client import Seen
from tests.services.process import until
from tests.services.system import Site

INPUT_PRICE, OUTPUT_PRICE = 1, 2  # µUSD a token, as tests/services/system.yaml says of `lab`


@dataclass(frozen=True)
class Books:
    """All four, after everything has come to rest."""

    seen: Sequence[Seen]
    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[Mapping[str, Any]]
    open_calls: int

    @cached_property
    def rows_of(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(row["request_id"], []).append(row)
        return found

    @cached_property
    def line_of(self) -> Mapping[str, Mapping[str, Any]]:
        return {line["request_id"]: line for line in self.lines}

    @property
    def whole(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.whole]

    @property
    def partial(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.body and not seen.whole]

    @property
    def estimated(self) -> list[str]:
        return [row["request_id"] for row in self.rows if row["estimate"]]

    @property
    def lost(self) -> list[str]:
        """Of whose answer somebody got a byte, and no row says so; or somebody got the last
        byte, and the row is a guess."""
        guessed = {*self.estimated} & {seen.request_id for seen in self.whole}
        return sorted({*self._ids_with_bytes} - {*self.rows_of} | guessed)

    @property
    def duplicates(self) -> list[str]:
        """Ids that stand for two calls, or for two rows, or went out twice."""
        counts = [
            Counter(row["request_id"] for row in self.rows),
            Counter(line["request_id"] for line in self.lines),
            Counter(self._ids_with_bytes),
        ]
        return sorted({name for count in counts for name, times in count.items() if times > 1})

    @property
    def wrong(self) -> list[dict[str, Any]]:
        """Final rows that do not say what the sandbox says, token by token and to the µUSD;
        estimated ones of a dead gateway that name someone else, or pay for less than he made;
        those of calls that were refused while the ledger was away, and pay for more. Each with
        what the sandbox says beside it."""
        return [
            {"row": dict(row), "sandbox": self.line_of.get(row["request_id"])}
            for row in self.rows
            if not self._is_right(row)
        ]

    @property
    def phantoms(self) -> list[str]:
        """Rows of calls that the sandbox never had."""
        return sorted({*self.rows_of} - {*self.line_of})

    @property
    def unseen(self) -> list[str]:
        """Calls that the sandbox served, in part at least, and nobody paid: no client got a
        byte of them, for the gateway died first."""
        return sorted({*self.line_of} - {*self.rows_of} - {*self._ids_with_bytes})

    @property
    def faults(self) -> dict[str, Any]:
        """All that must be empty."""
        found = {
            "lost": self.lost,
            "duplicates": self.duplicates,
            "wrong": self.wrong,
            "phantoms": self.phantoms,
            "open": self.open_calls,
            "refused": [seen.raw for seen in self.seen if seen.status not in (0, 200)],
        }
        return {name: what for name, what in found.items() if what}

    def _is_right(self, row: Mapping[str, Any]) -> bool:
        line = self.line_of.get(row["request_id"])
        if line is None:
            return False
        whom = (row["provider"], row["model"]) == (line["provider"], line["model"])
        if (row["status"], row["code"]) == (503, "store_unavailable"):
            unheard = row["request_id"] not in self._ids_with_bytes
            return unheard and whom and row["output_tokens"] <= line["output_tokens"]
        if row["estimate"]:
            return whom and row["output_tokens"] >= line["output_tokens"]
        return _figures(row) == _expected(line)

    @cached_property
    def _ids_with_bytes(self) -> list[str]:
        """Of the calls that were answered; a refusal's body is none of an answer's."""
        return [seen.request_id for seen in self.seen if seen.body]


def _figures(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("input_tokens", "output_tokens", "charge", "cost", "provider", "model", "status")
    return tuple(row[name] for name in names)


def _expected(line: Mapping[str, Any]) -> tuple[Any, ...]:
    given, made = line["input_tokens"], line["output_tokens"]
    money = given * INPUT_PRICE + made * OUTPUT_PRICE
    return (given, made, money, money, line["provider"], line["model"], 200)


def read(system: Site, seen: Sequence[Seen]) -> Books:
    """The books, once the sandbox has noticed the end of every call."""
    until(lambda: _in_flight(system) == 0)
    return Books(
        seen,
        system.rows("SELECT * FROM usage_usagerecord"),
        list(_lines(system.journal.read_text())),
        len(system.rows("SELECT request_id FROM usage_opencall")),
    )


def _in_flight(system: Site) -> int:
    status, body = system.get(f"{system.sandbox_url}/_sandbox/calls?request_id=none")
    assert status == 200
    return int(json.loads(body)["in_flight"])


def _lines(journal: str) -> Iterable[Mapping[str, Any]]:
    for line in journal.splitlines():
        yield json.loads(line)
