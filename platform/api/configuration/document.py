"""Reads the configuration file: YAML, `${ENV}` filled in, checked by the schema.

Every fault names its path and line; a value, which may be a secret, is never repeated.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema_rs import Draft202012Validator

from providers import answer_checks, breaker_policy, cache_rules, resilience, timeouts
from providers.catalogue.located import LocatedDocument, YamlError, read_yaml
from providers.operations.checking import faults as schema_faults
from tenants import limits, quotas

Place = tuple[str | int, ...]
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ConfigurationFault(Exception):
    """The file cannot be applied; the text says why, a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A checked file. `content` has its placeholders filled."""

    content: Mapping[str, Any]
    located: LocatedDocument

    def items(self, section: str) -> Iterator[tuple[Mapping[str, Any], Place]]:
        """A section's entries, each with its place."""
        for index, item in enumerate(self.content.get(section, ())):
            yield item, (section, index)

    def fault(self, place: Place, text: str) -> ConfigurationFault:
        return ConfigurationFault([_told(self.located, place, text)])


def read(text: str, environment: Mapping[str, str]) -> ConfigurationFile:
    """Raises ConfigurationFault."""
    try:
        located = read_yaml(text)
    except YamlError as error:
        raise ConfigurationFault([f"line {error.line}: {error}"]) from None
    except RecursionError:
        raise ConfigurationFault(["line 1: Nested too deeply, or an alias of itself."]) from None
    faults: list[tuple[Place, str]] = []
    content = _filled(located.document, (), environment, faults)
    faults += [(place, words) for words, place in schema_faults(_validator(), content)]
    if faults:
        raise ConfigurationFault([_told(located, place, text) for place, text in faults])
    return ConfigurationFile(content, located)


def escape(text: str) -> str:
    """Text that reads back as itself: what looks like a placeholder is none."""
    return text.replace("${", "$${")


def _filled(
    value: Any, place: Place, environment: Mapping[str, str], faults: list[tuple[Place, str]]
) -> Any:
    if isinstance(value, dict):
        return {k: _filled(v, (*place, k), environment, faults) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, (*place, i), environment, faults) for i, v in enumerate(value)]
    if isinstance(value, dt.date):  # YAML reads dates on its own
        return value.isoformat()
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "${"
        if not _NAME.match(name) or not match[0].endswith("}"):
            faults.append((place, "A placeholder is written ${NAME}; for the text ${ write $${."))
        elif name not in environment:
            faults.append((place, f"{name} is not set in the environment."))
        return environment.get(name, "")

    return _PLACEHOLDER.sub(fill, value)


def _told(located: LocatedDocument, place: Place, text: str) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return f"{path.lstrip('.') or 'the file'} (line {located.line(place)}): {text}"


@cache
def _validator() -> Draft202012Validator:
    schema = yaml.load(Path(__file__).with_name("schema.yaml").read_text("utf-8"), yaml.CSafeLoader)
    schema["$defs"] |= {
        "breaker": breaker_policy.SCHEMA,
        "cache": cache_rules.SCHEMA,
        "checks": answer_checks.SCHEMA,
        "retry": resilience.RETRY_SCHEMA,
        "timeouts": timeouts.SCHEMA,
        "rate_limits": limits.RATE_LIMITS_SCHEMA,
        "provider_rate_limits": limits.PROVIDER_RATE_LIMITS_SCHEMA,
        "house_rate_limits": limits.HOUSE_RATE_LIMITS_SCHEMA,
        "quotas": quotas.QUOTAS_SCHEMA,
        "key_quotas": quotas.KEY_QUOTAS_SCHEMA,
        "provider_quotas": quotas.PROVIDER_QUOTAS_SCHEMA,
        "house_quotas": quotas.HOUSE_QUOTAS_SCHEMA,
    }
    return Draft202012Validator(schema, validate_formats=True)
