"""The control API, under /_sandbox: scripts faults and tells what happened.

    PUT    /_sandbox/faults/{provider}    a fault (faults.py), JSON or spec; `*`: all providers
    GET    /_sandbox/faults               the faults that stand
    DELETE /_sandbox/faults[/{provider}]
    GET    /_sandbox/calls[?provider=&request_id=]   counts, in flight, each call's record
    POST   /_sandbox/reset                no faults, no remembered calls; the journal stays

A call is in flight until its journal line is written: wait for `in_flight` to be 0.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from providers.sandbox.calls import Calls
from providers.sandbox.faults import FaultBook, FaultError, Script

PREFIX = "/_sandbox/"


class Control:
    def __init__(self, faults: FaultBook, calls: Calls) -> None:
        self._faults = faults
        self._calls = calls

    def respond(self, method: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON document. `path` comes without the prefix."""
        resource, _, name = path.partition("/")
        match (method, resource):
            case ("GET", "faults"):
                return 200, self._faults.describe()
            case ("PUT", "faults") if name:
                return self._put(unquote(name), body)
            case ("DELETE", "faults"):
                self._faults.clear(unquote(name) or None)
                return 200, self._faults.describe()
            case ("GET", "calls"):
                asked = {key: values[-1] for key, values in parse_qs(query).items()}
                return 200, self._calls.describe(asked.get("provider"), asked.get("request_id"))
            case ("POST", "reset"):
                self._faults.clear()
                self._calls.reset()
                return 200, {}
        return 404, {"error": "The sandbox's control API has no such path."}

    def _put(self, provider: str, body: bytes) -> tuple[int, Any]:
        try:
            self._faults.put(provider, _script(body))
        except (ValueError, FaultError) as error:
            return 400, {"error": str(error)}
        return 200, self._faults.describe()


def _script(body: bytes) -> Script:
    """A JSON object, or a spec as it is or as JSON text. Raises ValueError or FaultError."""
    if body.lstrip().startswith((b"{", b"[", b'"')):
        document = orjson.loads(body)
        return Script.parse(document) if isinstance(document, str) else Script.read(document)
    return Script.parse(body.decode())
