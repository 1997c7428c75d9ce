"""What an answer must be like before a client may have it: a route's checks, as staff write them.

Nothing here can take long. Patterns run in the engine of Rust's `regex`, which takes time linear
in the text and knows no backtracking; how large a pattern may grow is bounded, and so is how
much of an answer is read. Schemas have no references, which may go round in circles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import orjson
from jsonschema_rs import Draft202012Validator, RegexOptions

MOST_READ = 256 * 1024  # characters of an answer
MOST_SCHEMA = 16 * 1024  # bytes, written as JSON
_MOST_PATTERNS = 10
# Bytes that a pattern may take once it is compiled. What people write reads MOST_READ characters
# in a few milliseconds, the worst there is in less than a second; without a bound it is minutes.
ENGINE = RegexOptions(size_limit=32 * 1024, dfa_size_limit=256 * 1024)
_REFERENCE = re.compile(rb'"\$(ref|dynamicRef|recursiveRef)"\s*:')

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "not_empty": {"type": "boolean"},
        "json": {"type": "boolean"},
        "schema": {"type": "object"},
        "min_characters": {"type": "integer", "minimum": 1, "maximum": MOST_READ},
        "max_characters": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
        "forbidden": {
            "type": "array",
            "maxItems": _MOST_PATTERNS,
            "items": {"type": "string", "minLength": 1, "maxLength": 500},
        },
    },
}
_validator = jsonschema_rs.validator_for(SCHEMA)


class CheckFault(ValueError):
    """What is wrong in a route's checks, and where: `path` leads to it."""

    def __init__(self, path: tuple[str | int, ...], text: str) -> None:
        super().__init__(f"{'/'.join(map(str, path)) or 'checks'}: {text}")
        self.path = path
        self.text = text


@dataclass(frozen=True, slots=True)
class Checks:
    """One route's, compiled. What they say of an answer holds nothing of the answer."""

    not_empty: bool = False
    json: bool = False
    min_characters: int = 0
    max_characters: int | None = None
    schema: Draft202012Validator | None = None
    forbidden: tuple[Draft202012Validator, ...] = ()

    def of_text(self, text: str) -> str | None:
        """What is wrong with a text, or None."""
        if self.not_empty and not text.strip():
            return "it is empty"
        if len(text) < self.min_characters:
            return f"it is shorter than {self.min_characters} characters"
        return self.of_words(text) or self._of_form(text)

    def of_words(self, text: str) -> str | None:
        """What is wrong with a text that need not be the whole answer: beside a tool call, say."""
        if self.max_characters is not None and len(text) > self.max_characters:
            return f"it is longer than {self.max_characters} characters"
        if not self.forbidden:
            return None
        if len(text) > MOST_READ:
            return _TOO_LONG
        for number, pattern in enumerate(self.forbidden, 1):
            if not pattern.is_valid(text):
                return f"it has what pattern {number} of `forbidden` forbids"
        return None

    def of_data(self, data: Any) -> str | None:
        """What is wrong with a data operation's record or list, which is JSON by itself."""
        if self.not_empty and not data:
            return "it is empty"
        if self.schema is not None and not self.schema.is_valid(data):
            return _OFF_SCHEMA
        if not (self.forbidden or self.min_characters or self.max_characters):
            return None
        text = orjson.dumps(data).decode()
        if len(text) < self.min_characters:
            return f"it is shorter than {self.min_characters} characters"
        return self.of_words(text)

    def _of_form(self, text: str) -> str | None:
        if not self.json and self.schema is None:
            return None
        if len(text) > MOST_READ:
            return _TOO_LONG
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return "it is no JSON"
        if self.schema is not None and not self.schema.is_valid(document):
            return _OFF_SCHEMA
        return None


_TOO_LONG = f"it is longer than {MOST_READ} characters, which is as far as checks read"
_OFF_SCHEMA = "it is not as `schema` says"


def parse(value: Any) -> Checks | None:
    """A route's checks from their JSON form; None where there are none. Raises CheckFault."""
    for error in _validator.iter_errors(value):
        raise CheckFault(tuple(error.instance_path), error.message)
    most = value.get("max_characters")
    least = value.get("min_characters", 0)
    if most is not None and least > most:
        raise CheckFault(("min_characters",), "No answer has more than `max_characters`.")
    checks = Checks(
        not_empty=value.get("not_empty", False),
        json=value.get("json", False),
        min_characters=int(least),
        max_characters=None if most is None else int(most),
        schema=_schema(value["schema"]) if "schema" in value else None,
        forbidden=tuple(_pattern(*each) for each in enumerate(value.get("forbidden", ()))),
    )
    return None if checks == Checks() else checks


def _schema(value: dict[str, Any]) -> Draft202012Validator:
    try:
        written = orjson.dumps(value)
    except TypeError:
        raise CheckFault(("schema",), "A number in it is too large, or a text broken.") from None
    if len(written) > MOST_SCHEMA:
        raise CheckFault(("schema",), f"It is larger than {MOST_SCHEMA} bytes. Check less.")
    if _REFERENCE.search(written):
        raise CheckFault(("schema",), "References are not followed. Write out what they stand for.")
    try:
        return Draft202012Validator(value, pattern_options=ENGINE)
    except ValueError:
        raise CheckFault(
            ("schema",),
            "This is no JSON Schema (draft 2020-12), or a `pattern` in it is larger than can be "
            "matched quickly.",
        ) from None


def _pattern(place: int, pattern: str) -> Draft202012Validator:
    try:
        return Draft202012Validator({"not": {"pattern": pattern}}, pattern_options=ENGINE)
    except ValueError:
        raise CheckFault(
            ("forbidden", place),
            "This is no regular expression of RE2's kind (no look-around, no back-references), "
            "or it is larger than can be matched quickly.",
        ) from None
