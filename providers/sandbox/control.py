"""The control API, under /_sandbox: scripts faults and tells what happened.

    PUT    /_sandbox/faults/{provider}    a fault (faults.py), JSON or spec; `*`: all providers
    GET    /_sandbox/faults               the faults that stand
    DELETE /_sandbox/faults[/{provider}]
    GET    /_sandbox/calls[?provider=&request_id=]   counts, in flight, each call's record
    GET    /_sandbox/definitions          what is played before what ships: each one's version
    PUT    /_sandbox/definitions/{slug}   a definition with its examples (definitions.py)
    DELETE /_sandbox/definitions/{slug}
    POST   /_sandbox/reset                no faults, no remembered calls; the rest stays

A call is in flight until its journal line is written: wait for `in_flight` to be 0.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from providers.sandbox.calls import Calls
from providers.sandbox.definitions import Definitions
from providers.sandbox.faults import FaultBook, Script

PREFIX = "/_sandbox/"
UNKNOWN = (404, {"error": "The sandbox's control API has no such path."})


class Control:
    def __init__(self, faults: FaultBook, calls: Calls, definitions: Definitions) -> None:
        self._faults = faults
        self._calls = calls
        self._definitions = definitions

    def respond(self, method: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON document. `path` comes without the prefix."""
        resource, _, name = path.partition("/")
        try:
            match resource:
                case "faults":
                    return self._of_faults(method, unquote(name), body)
                case "definitions":
                    return self._of_definitions(method, unquote(name), body)
                case "calls" if method == "GET":
                    asked = {key: values[-1] for key, values in parse_qs(query).items()}
                    return 200, self._calls.describe(asked.get("provider"), asked.get("request_id"))
                case "reset" if method == "POST":
                    self._faults.clear()
                    self._calls.reset()
                    return 200, {}
        except ValueError as error:
            return 400, {"error": str(error)}
        return UNKNOWN

    def _of_faults(self, method: str, provider: str, body: bytes) -> tuple[int, Any]:
        """Raises FaultError, which is a ValueError."""
        match method:
            case "PUT" if provider:
                self._faults.put(provider, _script(body))
            case "DELETE":
                self._faults.clear(provider or None)
            case "GET":
                pass
            case _:
                return UNKNOWN
        return 200, self._faults.describe()

    def _of_definitions(self, method: str, slug: str, body: bytes) -> tuple[int, Any]:
        """Raises ValueError."""
        match method:
            case "PUT" if slug:
                self._definitions.put(slug, body)
            case "DELETE" if slug:
                self._definitions.drop(slug)
            case "GET" if not slug:
                pass
            case _:
                return UNKNOWN
        return 200, self._definitions.versions()


def _script(body: bytes) -> Script:
    """A JSON object, or a spec as it is or as JSON text. Raises ValueError or FaultError."""
    if body.lstrip().startswith((b"{", b"[", b'"')):
        document = orjson.loads(body)
        return Script.parse(document) if isinstance(document, str) else Script.read(document)
    return Script.parse(body.decode())
