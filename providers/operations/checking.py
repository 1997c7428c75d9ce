"""Validates a call's parameters, and says in plain words what is wrong with them.

The validator's own messages quote the instance, which may be a whole prompt or a secret, so
the words here name the rule and the place and never the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from lib.problems import InvalidRequest
from providers.operations.operation import Operation

MAX_FAULTS: Final = 20
_MAX_NAME = 80
_DETAIL = "The request does not fit the operation. Correct it as `errors` says and send it again."

Fault = tuple[str, tuple[str | int, ...]]
"""What is wrong, and the path to it."""


def validate(operation: Operation, params: Mapping[str, Any]) -> None:
    """Raises InvalidRequest with every fault (at most 20), `param` being the first one's path."""
    if operation.request_validator.is_valid(params):
        return
    raise refusal(faults(operation.request_validator, params))


def faults(validator: Draft202012Validator, instance: Any) -> list[Fault]:
    """What is wrong with an instance that is not valid, at most 20 faults."""
    try:
        found = chain.from_iterable(map(_faults_of, validator.iter_errors(instance)))
        return list(islice(found, MAX_FAULTS))
    except ValueError:  # the validator copies what it reports on, and only so deep
        return [("This is nested too deeply.", ())]


def refusal(found: list[Fault]) -> InvalidRequest:
    """One problem for all the faults found."""
    first_words, first_path = found[0]
    param = pointer(first_path).removeprefix("/").replace("/", ".") or None
    detail = f"{param}: {first_words}" if param and len(found) == 1 else _DETAIL
    errors = [{"detail": words, "pointer": pointer(path)} for words, path in found]
    return InvalidRequest(detail, param=param, errors=errors)


def pointer(path: tuple[str | int, ...]) -> str:
    """A JSON Pointer (RFC 6901), in text that can be sent as UTF-8 whatever the names hold."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return "".join("/" + step for step in steps).encode("utf-8", "replace").decode()


def _faults_of(error: ValidationError) -> Iterator[Fault]:
    path = tuple(error.instance_path)
    if isinstance(error.kind, ValidationErrorKind.AdditionalProperties):
        for name in sorted(error.kind.unexpected):
            yield "Unknown. Leave it out.", (*path, name[:_MAX_NAME])
    elif isinstance(error.kind, ValidationErrorKind.Required):
        yield "This is required.", (*path, error.kind.property)
    else:
        yield _words(error), path


def _words(error: ValidationError) -> str:
    """The broken rule in a sentence that holds nothing of the value."""
    if say := _WORDS.get(error.kind.name):
        return say(error.kind.value)
    return f"This breaks the rule `{error.kind.name}`."


def _type_words(types: Any) -> str:
    names = [types] if isinstance(types, str) else [str(name) for name in types]
    return f"Must be {_one_of(names)}."


def _one_of(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)


_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "type": _type_words,
    "enum": lambda options: f"Must be {_one_of([_plain(option) for option in options])}.",
    "const": lambda value: f"Must be {_plain(value)}.",
    "minimum": lambda limit: f"Must be at least {limit}.",
    "maximum": lambda limit: f"Must be at most {limit}.",
    "exclusiveMinimum": lambda limit: f"Must be more than {limit}.",
    "minLength": lambda limit: f"Must have at least {limit} characters.",
    "maxLength": lambda limit: f"Must have at most {limit} characters.",
    "minItems": lambda limit: f"Must have at least {limit} items.",
    "maxItems": lambda limit: f"Must have at most {limit} items.",
    "pattern": lambda pattern: f"Must match the pattern {pattern}",
    "not": lambda refused: refused.get("description", "This is not allowed."),
}
