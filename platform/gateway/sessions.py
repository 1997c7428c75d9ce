"""Which target a caller's session stays with, so that a provider's prompt cache stays warm.

A session is the tenant's own, on one route, by the name in `X-Patchbay-Session`. This worker
remembers the ones used last.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from accounts.identity import Identity
from gateway.routing import Plan
from lib.problems import InvalidRequest

HEADER = b"x-patchbay-session"
MAX_SESSIONS = 50_000
MAX_NAME = 200  # bytes


class Sessions:
    """Names of targets by session."""

    def __init__(self) -> None:
        self._targets: OrderedDict[bytes, str] = OrderedDict()

    def target(self, session: bytes) -> str:
        """ "" where none is remembered."""
        return self._targets.get(session, "")

    def keep(self, session: bytes, target: str) -> None:
        self._targets[session] = target
        self._targets.move_to_end(session)
        while len(self._targets) > MAX_SESSIONS:
            self._targets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._targets)


def session_of(name: bytes, identity: Identity, plan: Plan) -> bytes:
    """What a session is remembered by: of the same size whatever its name is. Raises
    InvalidRequest for a name that is too long."""
    if len(name) > MAX_NAME:
        raise InvalidRequest(f"X-Patchbay-Session may be {MAX_NAME} bytes long at most.")
    route = plan.route
    whose = f"{identity.tenant_id}\n{identity.mode}\n{route.operation}\n{route.name}\n".encode()
    return hashlib.blake2b(whose + name, digest_size=16).digest()
