"""How a call ended, in a word, from the bytes that its client got.

`ok` is the sandbox's whole and right answer; `cut` a stream that had begun, ended by an error
event, and with nothing that looks like success; an error is its code. All else is `WRONG: …`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.chaos.client import Seen

OK, CUT = "ok", "cut"
# What an error may be where something behind the gateway fails, with its status (docs/errors.md).
STATUSES = {
    "upstream_rejected": 502,
    "provider_unavailable": 503,
    "circuit_open": 503,
    "store_unavailable": 503,
    "upstream_timeout": 504,
    "deadline_exceeded": 504,
}
_SAY_WHEN = {"circuit_open", "store_unavailable"}  # with Retry-After


def word_of(seen: Seen, ask: dict[str, Any]) -> str:
    if not seen.headers:
        return "WRONG: no answer"
    try:
        if seen.status != 200:
            return _problem(seen)
        asked = ask["messages"][0]["content"]
        return _streamed(seen, asked) if seen.streamed else _whole(seen, asked)
    except (ValueError, LookupError):
        return f"WRONG: {seen.raw[-300:]!r}"


def _problem(seen: Seen) -> str:
    code = str(json.loads(seen.body)["error"]["code"])
    if STATUSES.get(code) != seen.status:
        return f"WRONG: {seen.status} {code}"
    if code in _SAY_WHEN and int(seen.headers.get("retry-after", 0)) < 1:
        return f"WRONG: {code} without Retry-After"
    return code


def _whole(seen: Seen, asked: str) -> str:
    document = json.loads(seen.body)
    (choice,) = document["choices"]
    right = asked in choice["message"]["content"] and choice["finish_reason"] == "stop"
    return OK if right and seen.whole else f"WRONG: {document}"


def _streamed(seen: Seen, asked: str) -> str:
    told = events(seen)
    finishes = [finish for _, finish in _choices(told) if finish]
    is_whole = asked in text_of(told) and finishes == ["stop"]
    if told[-1] == "[DONE]":
        return OK if is_whole else f"WRONG: {told[-3:]}"
    error = json.loads(told[-1]).get("error", {})
    if error and not finishes and "[DONE]" not in told:
        return CUT
    return f"WRONG: {told[-3:]}"


def text_of(told: Sequence[str]) -> str:
    return "".join(delta.get("content") or "" for delta, _ in _choices(told))


def events(seen: Seen) -> list[str]:
    """A stream's. Raises ValueError where the answer's frame is broken or has no end: whatever
    happened behind the gateway, it ends its own answers well."""
    body, rest = b"", seen.body
    while size := int(rest.partition(b"\r\n")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return re.findall(r"data: (.*)\n\n", body.decode())


def _choices(told: Sequence[str]) -> Iterator[tuple[dict[str, Any], str | None]]:
    for each in told:
        if each != "[DONE]":
            for choice in json.loads(each).get("choices", ()):
                yield choice["delta"], choice["finish_reason"]
