"""How good an answer looks from outside, 0…1: what a target's quality score is fed with.

Nothing here changes or refuses an answer. It is asked once the client has all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from jsonschema_rs import Draft202012Validator

from providers.answer_checks import ENGINE
from providers.call import Answer, Call
from providers.openai_wire import FINISH_REASON

GOOD: Final = 1.0
TRUNCATED: Final = 0.7  # the limit may have been the caller's own
REFUSED: Final = 0.3
OFF_SCHEMA: Final = 0.2
NOTHING_FOUND: Final = 0.5  # perhaps there is nothing to be found
MALFORMED: Final = 0.0
EMPTY: Final = 0.0

MAX_READ = 256 * 1024  # bytes of an answer; a longer one is not looked into
MAX_WORK = 2**24  # bytes of the caller's schema times bytes of the answer
_REFERENCE = re.compile(rb'"\$(ref|dynamicRef|recursiveRef)"')
_BY_FINISH: Final[Mapping[Any, float]] = {"length": TRUNCATED, "content_filter": REFUSED}


def of_chat(call: Call, answer: Answer) -> float | None:
    """Of a whole chat.completion; None for one too long to read."""
    if len(answer.body) > MAX_READ:
        return None
    choice = (answer.document or orjson.loads(answer.body))["choices"][0]
    message = choice["message"]
    if message.get("refusal"):
        return REFUSED
    known = _BY_FINISH.get(choice.get("finish_reason"), GOOD)
    return _of_text(call, message.get("content") or "", known, bool(message.get("tool_calls")))


def of_stream(call: Call, events: Iterable[bytes]) -> float | None:
    """Of a stream that came to its end, by its events (all of them, where JSON was asked for:
    see `wants_all`), each a line `data: {…}`."""
    told = b"".join(events)
    if len(told) > MAX_READ:
        return None
    found = FINISH_REASON.findall(told)
    known = _BY_FINISH.get(found[-1].decode(), GOOD) if found else GOOD
    if not wants_all(call):
        return known
    deltas = [delta for line in told.splitlines() if (delta := _delta(line))]
    text = "".join(delta.get("content") or "" for delta in deltas)
    return _of_text(call, text, known, any(delta.get("tool_calls") for delta in deltas))


def of_data(data: Any) -> float:
    return GOOD if data else NOTHING_FOUND


def wants_all(call: Call) -> bool:
    """Whether it takes the whole text to judge the answer."""
    return _format(call) in ("json_object", "json_schema")


def _of_text(call: Call, text: str, known: float, calls_tools: bool) -> float:
    if known < GOOD or calls_tools:
        return known
    if not text.strip():
        return EMPTY
    if not wants_all(call):
        return GOOD
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return MALFORMED
    return GOOD if _meets(call.params["response_format"], document) else OFF_SCHEMA


def _meets(response_format: Mapping[str, Any], document: Any) -> bool:
    """Whether a document is as the caller's schema says. One that is no schema, or that could
    take long, asks for nothing: references may go round in circles, patterns be huge."""
    schema = (response_format.get("json_schema") or {}).get("schema")
    if not schema:
        return True
    written = orjson.dumps(schema)
    if _REFERENCE.search(written) or len(written) * len(orjson.dumps(document)) > MAX_WORK:
        return True
    try:
        validator = Draft202012Validator(schema, pattern_options=ENGINE)
    except ValueError:
        return True
    return bool(validator.is_valid(document))


def _format(call: Call) -> str:
    asked = call.params.get("response_format")
    return str(asked.get("type")) if isinstance(asked, Mapping) else ""


def _delta(line: bytes) -> Any:
    if not line.startswith(b"data: {"):
        return None
    choices = orjson.loads(line[6:]).get("choices")
    return choices[0].get("delta") if choices else None
