"""RFC 9111 and RFC 5861 once more, in the words of their sections, for what a provider may say.

Whole seconds throughout. It knows nothing of headers' spelling: `Said.headers` spells them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from email.utils import formatdate

from hypothesis import strategies as st

from cache.freshness import State
from cache.policy import CachePolicy

NOON = 1_800_000_000


@dataclass
class Said:
    """Directives (None: without an argument), and times as seconds from NOON; -1 is invalid.
    `vary` names one request header, or all of them."""

    directives: dict[str, int | None] = field(default_factory=dict)
    date: int | None = None
    expires: int | None = None
    age: int | None = None
    etag: str = ""
    modified: int | None = None
    vary: str = ""

    @property
    def conditions(self) -> set[str]:
        """RFC 9110 §13.1: what can be asked of an answer with these validators."""
        found = set()
        if self.etag.endswith('"'):
            found.add("if-none-match")
        if self.modified is not None and self.modified >= 0:
            found.add("if-modified-since")
        return found

    def headers(self, chance: random.Random, noon: float = NOON) -> dict[str, str]:
        headers = {}
        if self.directives:
            words = [_spelled(name, value, chance) for name, value in self.directives.items()]
            chance.shuffle(words)
            headers["cache-control"] = chance.choice([",", ", ", " ,\t"]).join(words)
        dates = (("date", self.date), ("expires", self.expires), ("last-modified", self.modified))
        for name, value in dates:
            if value is not None:
                headers[name] = "0" if value < 0 else formatdate(noon + value, usegmt=True)
        if self.age is not None:
            headers["age"] = "young" if self.age < 0 else str(self.age)
        others = {"etag": self.etag, "vary": self.vary}
        return headers | {name: text for name, text in others.items() if text}


def _spelled(name: str, value: int | None, chance: random.Random) -> str:
    name = chance.choice([name, name.upper(), name.title()])
    if value is None:
        return name
    text = "soon" if value < 0 else str(value)
    return f'{name}="{text}"' if chance.random() < 0.3 else f"{name}={text}"


_SPANS = st.sampled_from([-1, 0, 1, 5, 10, 60, 3600])
_FLAGS = ("no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate", "public")
_TIMED = ("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "x-other")

said = st.builds(
    Said,
    directives=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(_FLAGS), st.none()),
            st.tuples(st.sampled_from(_TIMED), _SPANS),
            st.tuples(st.sampled_from(_TIMED), _SPANS),
        ),
        max_size=4,
    ).map(dict),
    date=st.none() | st.integers(0, 30),
    expires=st.none() | st.integers(-1, 120),
    age=st.none() | st.integers(-1, 30),
    etag=st.sampled_from(["", '"a"', '"a"', 'W/"a"', '"b"', "bare"]),
    modified=st.none() | st.integers(-1, 0),
    vary=st.sampled_from(["", "", "", "lang", "Lang", "*"]),
)

policies = st.builds(
    CachePolicy,
    ttl=st.sampled_from([0, 5, 60]),
    min_ttl=st.sampled_from([0, 0, 3]),
    max_ttl=st.sampled_from([30, 86_400]),
    stale_while_revalidate=st.sampled_from([0, 7]),
    stale_if_error=st.sampled_from([0, 50]),
    max_retention=st.sampled_from([20, 1e9]),
    public=st.booleans(),
)


def may_store(told: Said, policy: CachePolicy) -> bool:
    """§3: no no-store, and no private where the cache is shared by tenants; §4.1: no answer that
    no request can be matched with."""
    if "no-store" in told.directives or told.vary == "*":
        return False
    return not (policy.public and "private" in told.directives)


def suits(told: Said, asked_with: str, now_with: str) -> bool:
    """§4.1: `lang` of the request that was answered, and of this one."""
    return told.vary.lower() != "lang" or asked_with == now_with


def renewed(told: Said, by: Said) -> Said | None:
    """§4.3.4 and §3.2: the answer after a 304 that says `by`; None where that is about another
    one. What the 304 does not say is as it was, but for when and how old it was."""
    if by.etag and by.etag.removeprefix("W/") != told.etag.removeprefix("W/"):
        return None
    return replace(
        told,
        directives=by.directives or told.directives,
        date=by.date,
        age=by.age,
        expires=told.expires if by.expires is None else by.expires,
        etag=by.etag or told.etag,
        modified=told.modified if by.modified is None else by.modified,
        vary=by.vary or told.vary,
    )


def lifetime(told: Said, policy: CachePolicy, came: int) -> float:
    """§4.2.1, then what the policy makes of it; of no-cache (§5.2.2.4) it makes nothing."""
    seconds: float
    if "no-cache" in told.directives:
        return 0
    if "s-maxage" in told.directives:
        seconds = max(0, told.directives["s-maxage"] or 0)
    elif "max-age" in told.directives:
        seconds = max(0, told.directives["max-age"] or 0)
    elif told.expires is not None:
        date = came if told.date is None else told.date
        seconds = 0 if told.expires < 0 else max(0, told.expires - date)
    else:
        seconds = policy.ttl
    return min(max(policy.min_ttl, seconds), policy.max_ttl, policy.max_retention)


def current_age(told: Said, asked: int, came: int, now: int) -> int:
    """§4.2.3, step by step."""
    age_value = max(0, told.age or 0)
    apparent_age = 0 if told.date is None else max(0, came - told.date)
    response_delay = came - asked
    corrected_age_value = age_value + response_delay
    corrected_initial_age = max(apparent_age, corrected_age_value)
    return corrected_initial_age + (now - came)


def state(told: Said, policy: CachePolicy, times: tuple[int, int], now: int) -> State:
    """§4.2 and §4.2.4; RFC 5861 §3 and §4. `times`: asked, came."""
    fresh = lifetime(told, policy, times[1])
    age = current_age(told, *times, now)
    if fresh > age:
        return State.FRESH
    never_stale = {"must-revalidate", "proxy-revalidate", "s-maxage", "no-cache"}
    if never_stale & set(told.directives):
        return State.DEAD
    for name, by_policy, allowed in (
        ("stale-while-revalidate", policy.stale_while_revalidate, State.WHILE_REVALIDATING),
        ("stale-if-error", policy.stale_if_error, State.ON_ERROR),
    ):
        span = max(0, told.directives[name] or 0) if name in told.directives else by_policy
        if age < fresh + min(span, policy.max_retention - fresh):
            return allowed
    return State.DEAD
