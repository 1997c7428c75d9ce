"""Faults on demand. A spec is `name=value;name;…`, in the header `x-sandbox-fault`; the control
API takes the same names as keys of its JSON.

    status=429            answer this error in the provider's own words
    retry_after=2         seconds, with `status`; in the header, or where the provider puts it
    code=…                the error's own code, with `status` (OpenAI: insufficient_quota)
    example=name          a data provider answers with this example
    delay_ms=300          wait before the first byte
    pace_ms=20            wait between the events of a stream
    slow_headers[=1000]   the answer's head takes so many milliseconds, bit by bit
    no_first_byte         accept the request, never answer
    cut_after=3           break the connection after so many events (a whole answer: half-way)
    cut=close             … how: close (no closing chunk; default), reset (TCP RST), mid (within
                          the next event, then close), clean (HTTP ends well, events are missing)
    stall_after=3         after so many events send nothing more, keep the connection open
    malformed_json        a whole answer that is not JSON
    truncated_json        a whole answer that ends half-way, with the length of that half
    malformed_sse[=0]     garbage instead of the event after so many
    error_event[=0]       after so many events the provider's error event, then the end
    endless               a stream (or a whole answer's body) that never ends
    huge_body[=50MB]      a valid but huge answer; in a stream one huge event
    gzip_bomb[=50MB]      zeros, compressed, though nobody asked for compression
    wrong_content_type[=text/html]   the right body under the wrong name
    html                  an HTML page, with `status` or 200
    empty_body            nothing
    no_usage              usage is left out
    provider=slug, model=name        only there; `model=token` is where its tokens are given out

What is said of streams alone does nothing to whole answers, and the reverse. For the
control API there are also `times` (so many calls, then over), `flap` (so many calls, as many
without, and again), `probability` (0 to 1) and `seed` (of that chance), and in JSON `spec` (a
string as above).
"""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from providers.sandbox.dialects.dialect import TOKEN

_SIZE = re.compile(r"(\d{1,12})(KB|MB|GB|B|)", re.IGNORECASE)
_UNITS = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
EVERY_PROVIDER = "*"


class FaultError(ValueError):
    """The spec is not of the grammar; the message says where."""


class Cut(enum.StrEnum):
    """How a connection is broken."""

    CLOSE = "close"
    RESET = "reset"
    MID = "mid"
    CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call. Times are in milliseconds, sizes in bytes."""

    status: int | None = None
    retry_after: int | None = None
    code: str | None = None
    example: str | None = None
    delay_ms: int = 0
    pace_ms: int = 0
    slow_headers: int = 0
    no_first_byte: bool = False
    cut_after: int | None = None
    cut: Cut = Cut.CLOSE
    stall_after: int | None = None
    malformed_json: bool = False
    truncated_json: bool = False
    malformed_sse: int | None = None
    error_event: int | None = None
    endless: bool = False
    huge_body: int = 0
    gzip_bomb: int = 0
    wrong_content_type: str | None = None
    html: bool = False
    empty_body: bool = False
    no_usage: bool = False
    provider: str | None = None
    model: str | None = None

    def concerns(self, provider: str, model: str) -> bool:
        return self.provider in (None, provider) and self.model in (None, model)

    def stated(self) -> dict[str, Any]:
        """What is not as it is without a fault."""
        return {name: value for name, value in asdict(self).items() if value != _USUAL[name]}


NO_FAULT = Fault()
_USUAL = asdict(NO_FAULT)


def parse(spec: str) -> Fault:
    """Raises FaultError."""
    return from_fields(_fields(spec))


def from_fields(fields: Mapping[str, Any]) -> Fault:
    """`True` for a name without a value. Raises FaultError."""
    fault = Fault(**{name: _value(name, value) for name, value in fields.items()})
    if fault.slow_headers and (fault.endless or fault.stall_after is not None):
        raise FaultError("'slow_headers' goes with no answer that never ends.")
    return fault


def _fields(spec: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for item in filter(None, map(str.strip, spec.split(";"))):
        name, given, value = item.partition("=")
        fields[name.strip()] = value.strip() if given else True
    return fields


def _value(name: str, value: Any) -> Any:
    if name not in _READERS:
        raise FaultError(f"There is no fault {name!r}.")
    bare, read = _READERS[name]
    try:
        return read(bare if value is True else str(value))
    except (ValueError, KeyError):
        raise FaultError(f"{name!r} cannot be {value!r}.") from None


def _flag(value: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[value.lower()]


def _count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(value)
    return number


def _status(value: str) -> int:
    number = int(value)
    if not 200 <= number <= 599:
        raise ValueError(value)
    return number


def _size(value: str) -> int:
    match = _SIZE.fullmatch(value)
    if not match:
        raise ValueError(value)
    return int(match[1]) * _UNITS[match[2].upper()]


def _text(value: str) -> str:
    if not value or not value.isascii() or not value.isprintable():
        raise ValueError(value)
    return value


_FLAGS = ("no_first_byte", "endless", "no_usage", "malformed_json", "truncated_json")
_COUNTS = ("retry_after", "delay_ms", "pace_ms", "cut_after", "stall_after")

# What a bare name stands for ("" where there must be a value), and how a value is read.
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    **dict.fromkeys((*_FLAGS, "html", "empty_body"), ("true", _flag)),
    **dict.fromkeys(_COUNTS, ("", _count)),
    **dict.fromkeys(("malformed_sse", "error_event"), ("0", _count)),
    **dict.fromkeys(("huge_body", "gzip_bomb"), ("50MB", _size)),
    **dict.fromkeys(("code", "example", "provider", "model"), ("", _text)),
    "status": ("", _status),
    "slow_headers": ("1000", _count),
    "wrong_content_type": ("text/html", _text),
    "cut": ("", Cut),
}


@dataclass(slots=True)
class Script:
    """A fault that stands for a provider until it is taken away or used up."""

    fault: Fault
    times: int | None
    probability: float
    chance: random.Random
    flap: int = 0
    met: int = 0  # calls that it was asked about

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Script:
        """From the control API's JSON. Raises FaultError."""
        if not isinstance(document, Mapping):
            raise FaultError("The body must be a JSON object or a spec.")
        fields = dict(document)
        times, seed = fields.pop("times", None), fields.pop("seed", 0)
        probability, flap = fields.pop("probability", 1), fields.pop("flap", 0)
        for name, number in (("times", 0 if times is None else times), ("flap", flap)):
            if not isinstance(number, int) or number < 0:
                raise FaultError(f"{name!r} must be a whole number.")
        if not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise FaultError("'probability' must be from 0 to 1.")
        spelled = _fields(str(fields.pop("spec", "")))
        chance = random.Random(str(seed))
        fault = from_fields({**fields, **spelled})
        return cls(fault, times, float(probability), chance, flap)

    @classmethod
    def parse(cls, spec: str) -> Script:
        """From a spec that may also have `times`, `flap`, `probability` and `seed`. Raises
        FaultError."""
        fields = _fields(spec)
        for name, kind in (("times", int), ("flap", int), ("probability", float)):
            try:
                fields |= {name: kind(fields[name])} if name in fields else {}
            except ValueError:
                raise FaultError(f"{name!r} cannot be {fields[name]!r}.") from None
        return cls.read(fields)

    def strikes(self, provider: str, model: str) -> bool:
        """Whether this call is hit; counts it if so."""
        if self.times == 0 or not self.fault.concerns(provider, model):
            return False
        self.met += 1
        if self.flap and (self.met - 1) // self.flap % 2:
            return False
        if self.probability < 1 and self.chance.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultBook:
    """The scripted faults: one for each provider and model, `*` for every provider."""

    def __init__(self) -> None:
        self._scripts: dict[tuple[str, str | None], Script] = {}

    def put(self, provider: str, script: Script) -> None:
        self._scripts[provider, script.fault.model] = script

    def clear(self, provider: str | None = None) -> None:
        """Takes a provider's faults away, or all."""
        kept = {} if provider is None else self._scripts
        self._scripts = {key: script for key, script in kept.items() if key[0] != provider}

    def take(self, provider: str, model: str) -> Fault:
        """The fault that strikes this call: the model's before the provider's before `*`. What
        is said of a provider is said of its answers, not of its tokens (`model=token`)."""
        models = (model,) if model == TOKEN else (model, None)
        for slug in (provider, EVERY_PROVIDER):
            for key in ((slug, each) for each in models):
                script = self._scripts.get(key)
                if script and script.strikes(provider, model):
                    return script.fault
        return NO_FAULT

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Each provider's faults, with how many times they will still strike."""
        told: dict[str, list[dict[str, Any]]] = {}
        for (provider, _), script in self._scripts.items():
            told.setdefault(provider, []).append({**script.fault.stated(), "times": script.times})
        return told
