"""The names of tags: what an answer depends on, and what its client calls it.

operation:finance.quote  route:fast  tenant:7  provider:lab  model:lab/gpt-x
symbol:AAPL                          a field of a data operation's request
client:7:nightly-report              from X-Patchbay-Cache-Tags, the tenant's own
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cache.keys import Place
from lib.problems import InvalidRequest
from providers.operations.operation import RESERVED

HEADER = "X-Patchbay-Cache-Tags"
MOST_OF_CLIENT = 16
MOST_FIELDS = 8
LONGEST_FIELD = 64
_OURS = frozenset({"operation", "route", "tenant", "provider", "model", "client"})
_CLIENTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}\Z")


def of_call(place: Place) -> list[str]:
    """What is known before anybody is asked."""
    names = [f"operation:{place.operation}", f"route:{place.route}"]
    if place.tenant_id is not None:
        names.append(of_tenant(place.tenant_id))
    return names


def of_answer(provider: str, model: str) -> list[str]:
    """What only the answer tells."""
    names = [f"provider:{provider}"]
    if model:
        names.append(f"model:{provider}/{model}")
    return names


def of_fields(params: Mapping[str, Any]) -> list[str]:
    """Of a data operation's request: its short values, by which one would ask for it again."""
    names = [
        f"{name}:{value}"
        for name, value in sorted(params.items())
        if name not in RESERVED and name not in _OURS and _is_short(value)
    ]
    return names[:MOST_FIELDS]


def of_tenant(tenant_id: int) -> str:
    return f"tenant:{tenant_id}"


def of_client(tenant_id: int, names: Iterable[str]) -> list[str]:
    """A tenant's own names for its answers; another's of the same name are others."""
    return [f"client:{tenant_id}:{name}" for name in names]


def parse_names(header: str) -> Sequence[str]:
    """X-Patchbay-Cache-Tags. Raises InvalidRequest."""
    names = [name.strip(" \t") for name in header.split(",", MOST_OF_CLIENT)]
    if len(names) > MOST_OF_CLIENT or not all(map(is_name, names)):
        detail = (
            f"{HEADER} takes up to {MOST_OF_CLIENT} names with commas between them, each of up to "
            "64 letters, digits and . _ : / -, beginning with a letter or digit."
        )
        raise InvalidRequest(
            detail, param=HEADER, errors=[{"detail": detail, "pointer": f"/{HEADER}"}]
        )
    return names


def is_name(text: str) -> bool:
    """Whether a client may call its answers so."""
    return _CLIENTS.match(text) is not None


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_FIELD
    return isinstance(value, (int, float)) and not isinstance(value, bool)
