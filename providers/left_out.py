"""Rows that cannot work as they are written: calls pass them over, and staff are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog

log = structlog.get_logger("patchbay.snapshot")


class Row(NamedTuple):
    """`kind` is provider, model, route or credential."""

    kind: str
    name: str


class LeftOut(list[Row]):
    @contextmanager
    def if_broken(self, kind: str, name: str) -> Iterator[None]:
        """A row that cannot work must not take the others along."""
        try:
            yield
        except Exception as error:
            self.append(Row(kind, name))
            log.exception("row_unusable", kind=kind, name=name, reason=type(error).__name__)

    def credential(self, public_id: str, reason: str) -> None:
        self.append(Row("credential", public_id))
        log.error("credential_unusable", credential=public_id, reason=reason)
