"""What a provider's, a route's and a target's row must say for calls to go by it.

The snapshot leaves out what cannot work, and says so in the log alone. Whoever writes a row is told
before: in a form, by a file's line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from django.core.exceptions import ValidationError
from jsonschema_rs import Draft202012Validator

from lib.inside import leads_inside
from providers.dialects import ADAPTERS
from providers.operations import Kind, checking, registry
from providers.resilience import faults
from providers.timeouts import SCHEMA as TIMEOUTS
from tenants.limits import ItemFault

_ADDRESS: Final = re.compile(r"https?://[^\s?#@{}/]+(/[^\s?#@{}]*)?\Z")
_CATEGORY: Final = re.compile(r"[a-z]{2,32}\Z")
_timeouts: Final = Draft202012Validator(dict(TIMEOUTS))


class Fault(NamedTuple):
    """What is wrong with a column, and in it the `path` to that."""

    field: str
    text: str
    path: tuple[str | int, ...] = ()


def refuse(found: Iterable[Fault]) -> None:
    """Raises ValidationError where anything is wrong."""
    errors = {each.field: _as_error(each) for each in found}
    if errors:
        raise ValidationError(errors)


def validate_breaker(value: Any) -> None:
    """Raises ItemFault."""
    _check_policy("breaker", value)


def validate_retry(value: Any) -> None:
    """Raises ItemFault."""
    _check_policy("retry", value)


def validate_timeouts(value: Any) -> None:
    """Raises ItemFault."""
    for fault in of_timeouts(value):
        raise ItemFault(fault.path, fault.text, fault.field)


def of_provider(row: Any) -> Iterator[Fault]:
    if row.adapter not in ADAPTERS:
        yield Fault("adapter", f"Must be one of {', '.join(ADAPTERS)}.")
    elif row.adapter == "manifest" and not row.manifest:
        text = "Data is served by a definition. Begin one under Definitions: it makes the provider."
        yield Fault("adapter", text)
    if not _CATEGORY.match(row.category):
        yield Fault("category", "Must be 2 to 32 lower-case letters.")
    if not isinstance(row.settings, dict):
        yield Fault("settings", "Must be an object, such as {}.")
    yield from _of_address(row)
    yield from of_timeouts(row.timeouts)


def _of_address(row: Any) -> Iterator[Fault]:
    if not _ADDRESS.match(row.base_url):
        text = "Must be an address such as https://api.example.com/v1, without a query."
        yield Fault("base_url", text)
    elif not row.allow_private_network and (host := leads_inside(row.base_url)) is not None:
        text = f"{host} is a private or loopback address. If you run this upstream yourself, allow "
        yield Fault("base_url", text + "the private network.")


def of_timeouts(value: Any) -> Iterator[Fault]:
    for words, path in checking.faults(_timeouts, value):
        yield Fault("timeouts", words, path)


def of_route(operation: str, alias: str) -> Fault | None:
    known = registry().get(operation)
    if known is None:
        return Fault("operation", f"There is no operation {operation}.")
    if known.kind is Kind.DATA and alias:
        return Fault("alias", "Only routes of models have an alias. Leave it out.")
    if known.kind is not Kind.DATA and not alias:
        return Fault("alias", f"A route of {operation} needs an alias.")
    return None


def of_target(operation: str, provider: Any, model: Any) -> Fault | None:
    """`operation` is its route's. A row is known: a provider, and a model or None."""
    if operation not in registry():
        return None  # which is the route's fault
    if registry()[operation].kind is not Kind.DATA:
        return _of_model(operation, provider, model)
    if model is not None:
        return Fault("model", "A data operation's target has no model.")
    manifest = provider.manifest if isinstance(provider.manifest, Mapping) else {}
    if operation not in manifest.get("operations", {}):
        return Fault("provider", f"{provider.slug} does not serve {operation}.")
    return None


def _of_model(operation: str, provider: Any, model: Any) -> Fault | None:
    if model is None:
        return Fault("model", f"Say which of {provider.slug}'s models.")
    if model.operation != operation:
        text = f"{provider.slug} has no model {model.model_id} for {operation}. Add it to "
        return Fault("model", f"{text}the provider's models.")
    return None


def _check_policy(part: str, value: Any) -> None:
    for fault in faults({part: value}):
        raise ItemFault(fault.path[1:], fault.text, part)


def _as_error(fault: Fault) -> ValidationError:
    return ItemFault(fault.path, fault.text) if fault.path else ValidationError(fault.text)
