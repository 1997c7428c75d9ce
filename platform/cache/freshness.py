"""How fresh an answer is: RFC 9111 and RFC 5861, for a cache that stands before providers.

Pure functions over what a provider said and when. Times are unix seconds, spans seconds, and
header names are lower case. What the provider does not say comes from the policy.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from cache.policy import CachePolicy

LONGEST = 2**31  # RFC 9111 §1.2.2: more than that is read as that
OF_FRESHNESS = ("cache-control", "expires", "date", "age", "etag", "last-modified", "vary")
SLOWER, QUICKER = 1.5, 0.5  # by how much an adaptive TTL moves

# A name, and a quoted string or what else comes up to the next separator.
_DIRECTIVE = re.compile(
    r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?"""
)
_DATE = re.compile(r"[A-Z][a-z]{2,8}, ?[0-9]{2}[ -][A-Z][a-z]{2}[ -][0-9]{2,4} [0-9:]{8} GMT\Z")
_ASCTIME = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}\Z")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

Headers = Mapping[str, str]
Pairs = tuple[tuple[str, str], ...]


class State(enum.IntEnum):
    """What may be done with a kept answer."""

    FRESH = 0
    WHILE_REVALIDATING = 1  # served at once while a new one is fetched
    ON_ERROR = 2  # served when no new one can be had
    DEAD = 3


class Times(NamedTuple):
    """When the provider was asked, and when its answer had come."""

    asked: float
    came: float


@dataclass(frozen=True, slots=True)
class Freshness:
    """An answer was `age` seconds old when it came `at`, is fresh for `lifetime`, and may be used
    for so much longer while a new one is fetched, or when none can be had. `retention` seconds
    after it came it must be gone."""

    at: float
    lifetime: float
    age: float = 0.0
    while_revalidating: float = 0.0
    if_error: float = 0.0
    retention: float = LONGEST

    def age_at(self, now: float) -> float:
        """A clock that was set back makes nothing younger than it was."""
        return self.age + max(0.0, now - self.at)

    def state(self, now: float, max_age: float | None = None) -> State:
        """`max_age`: the client takes nothing older, however that came about."""
        age = self.age + max(0.0, now - self.at)
        if max_age is not None and age > max_age:
            return State.DEAD
        stale = age - self.lifetime
        if stale < 0:
            return State.FRESH
        if stale < self.while_revalidating:
            return State.WHILE_REVALIDATING
        return State.ON_ERROR if stale < self.if_error else State.DEAD

    @property
    def fresh_for(self) -> float:
        """Seconds from `at` until it is stale."""
        return max(0.0, self.lifetime - self.age)

    @property
    def ends(self) -> float:
        """From when on it is stale (unix seconds)."""
        return self.at + self.fresh_for

    @property
    def gone(self) -> float:
        """From when on whoever asks has to wait for a new one."""
        return self.ends + max(0.0, self.while_revalidating)

    def must_go(self, now: float) -> bool:
        """By its provider's terms: not even to ask whether it still holds may it be kept."""
        return now - self.at >= self.retention

    @property
    def usable_for(self) -> float:
        """Seconds from `at` until it is of no use at all."""
        return max(0.0, self.lifetime + max(self.while_revalidating, self.if_error) - self.age)


def directives(cache_control: str) -> dict[str, str]:
    """Cache-Control's, names in lower case, "" for no argument. One said twice, with arguments
    that differ, has an argument that is invalid (RFC 9111 §4.2.1 lets us call it stale). Where
    other separators stand for commas, a no-store counts all the same."""
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(cache_control):
        name, quoted, token = match[1].lower(), match[2], match[3]
        argument = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token or ""
        found[name] = argument if found.get(name, argument) == argument else "?"
    return found


def freshness(
    headers: Headers, times: Times, policy: CachePolicy, *, ttl: float
) -> Freshness | None:
    """Of an answer that came with `headers`; `ttl` counts where they say nothing. None: it must
    not be kept (no-store, private in a public place, Vary: *)."""
    said = directives(headers.get("cache-control", ""))
    if "no-store" in said or ("private" in said and policy.public) or _varies_by_all(headers):
        return None
    told = _told(said, headers, times.came)
    lifetime = 0.0 if "no-cache" in said else policy.lifetime(ttl if told is None else told)
    revalidating, on_error = _stale_spans(said, policy)
    left = policy.max_retention - lifetime
    return Freshness(
        at=times.came,
        lifetime=lifetime,
        age=initial_age(headers, times),
        while_revalidating=min(revalidating, left),
        if_error=min(on_error, left),
        retention=min(policy.max_retention, LONGEST),
    )


def initial_age(headers: Headers, times: Times) -> float:
    """corrected_initial_age, RFC 9111 §4.2.3."""
    date = http_date(headers.get("date", ""))
    apparent = 0.0 if date is None else max(0.0, times.came - date)
    told = _seconds(headers.get("age", "").partition(",")[0].strip())
    return max(apparent, (told or 0.0) + max(0.0, times.came - times.asked))


def tells(headers: Headers) -> bool:
    """Whether the provider itself says how long its answer is fresh."""
    return _told(directives(headers.get("cache-control", "")), headers, 0.0) is not None


def kept_headers(headers: Headers) -> Pairs:
    """Those of an answer's headers that say something about its freshness; no other is kept."""
    return tuple((name, headers[name]) for name in OF_FRESHNESS if name in headers)


def varied(headers: Headers, asked_with: Headers) -> Pairs:
    """What the answer depends on besides its key: request headers that Vary names, as sent."""
    names = {name.strip().lower() for name in headers.get("vary", "").split(",")} - {""}
    return tuple((name, asked_with.get(name, "")) for name in sorted(names))


def conditional(kept: Headers) -> dict[str, str]:
    """The request headers that ask whether a kept answer still holds; none if it has no
    validator."""
    asks = {}
    if _ENTITY_TAG.fullmatch(kept.get("etag", "")):
        asks["if-none-match"] = kept["etag"]
    if http_date(kept.get("last-modified", "")) is not None:
        asks["if-modified-since"] = kept["last-modified"]
    return asks


def updated(kept: Headers, told: Headers) -> dict[str, str] | None:
    """The headers of a kept answer after a 304 (RFC 9111 §3.2, §4.3.4). None: it is about
    another answer than the one that is kept."""
    before, now = kept.get("etag"), told.get("etag")
    if now is not None and _opaque(now) != _opaque(before or ""):
        return None
    held = {name: value for name, value in kept.items() if name not in {"age", "date"}}
    return held | dict(kept_headers(told))


def none_match(if_none_match: str, etag: str) -> bool:
    """Whether the client has this answer already (RFC 9110 §13.1.2, weak comparison)."""
    if if_none_match.strip() == "*":
        return True
    return _opaque(etag) in map(_opaque, _ENTITY_TAG.findall(if_none_match))


def adapted(before: float, policy: CachePolicy, *, changed: bool) -> float:
    """The next TTL: shorter when the answer was another one, longer when it was the same."""
    return policy.lifetime(before * (QUICKER if changed else SLOWER))


def http_date(text: str) -> float | None:
    """Unix seconds of one of HTTP's three forms of a date; None for anything else."""
    if not (_DATE.match(text) or _ASCTIME.match(text)):
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()


def _told(said: Mapping[str, str], headers: Headers, came: float) -> float | None:
    """freshness_lifetime, RFC 9111 §4.2.1: s-maxage, max-age, or Expires less Date. What is
    invalid is stale."""
    if "no-cache" in said:
        return 0.0
    for name in ("s-maxage", "max-age"):
        if name in said:
            return _seconds(said[name]) or 0.0
    if "expires" not in headers:
        return None
    expires = http_date(headers["expires"])
    date = http_date(headers.get("date", ""))
    return 0.0 if expires is None else max(0.0, expires - (came if date is None else date))


_NEVER_STALE = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"})


def _stale_spans(said: Mapping[str, str], policy: CachePolicy) -> tuple[float, float]:
    """RFC 5861; none where the provider forbids that anything stale is served."""
    if not _NEVER_STALE.isdisjoint(said):
        return 0.0, 0.0
    spans = (
        ("stale-while-revalidate", policy.stale_while_revalidate),
        ("stale-if-error", policy.stale_if_error),
    )
    first, second = (
        (_seconds(said[name]) or 0.0) if name in said else span for name, span in spans
    )
    return first, second


def _varies_by_all(headers: Headers) -> bool:
    return "*" in headers.get("vary", "")


def _seconds(text: str) -> float | None:
    """delta-seconds, RFC 9111 §1.2.2."""
    if not (text.isascii() and text.isdigit()):
        return None
    return float(LONGEST if len(text) > 10 else min(int(text), LONGEST))


def _opaque(etag: str) -> str:
    return etag.removeprefix("W/")
