"""How long answers are kept, for whom, and what the client said about it.

One policy for each operation or route; the client's wish comes in X-Patchbay-Cache-Control.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lib.problems import InvalidRequest

HEADER = "X-Patchbay-Cache-Control"
MOST_SECONDS = 31_536_000  # a year: RFC 9111 has no use for more
MOST_WORDS = 200  # characters of the header


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """All spans in seconds.

    `ttl` is for answers whose provider does not say how long they are fresh, 0 where nothing is
    kept unless the client asks. What a provider says, what the client asks for, and `adaptive`
    move within `min_ttl` and `max_ttl`. An answer that says there is nothing is fresh for
    `empty_ttl` at most, and stale for no longer. `max_retention` is the longest that the
    provider's terms let anything be kept. `public`: everybody has the same answer. `sampled`:
    answers made by chance (a temperature above 0) are kept too. `shared`: for all workers.
    `fails_together`: calls that wait for the same answer hear of the failure together, instead of
    trying one after another.
    """

    ttl: float = 0.0
    min_ttl: float = 0.0
    max_ttl: float = 86_400.0
    empty_ttl: float = 30.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    max_retention: float = math.inf
    adaptive: bool = False
    public: bool = False
    sampled: bool = False
    shared: bool = True
    fails_together: bool = True

    def lifetime(self, seconds: float) -> float:
        """`seconds` within the bounds; the terms' is the last word."""
        return min(max(seconds, self.min_ttl), self.max_ttl, self.max_retention)

    def of_nothing(self) -> CachePolicy:
        """For an answer that says there is nothing: that may have changed any moment."""
        return replace(
            self,
            min_ttl=0.0,
            max_ttl=min(self.max_ttl, self.empty_ttl),
            stale_while_revalidate=min(self.stale_while_revalidate, self.empty_ttl),
            stale_if_error=min(self.stale_if_error, self.empty_ttl),
            adaptive=False,
        )

    def ttl_for(self, wish: Wish) -> float:
        """For an answer whose provider does not say."""
        asked = self.ttl if self.ttl or wish.max_age is None else wish.max_age
        return self.lifetime(asked) if asked else 0.0

    def keeps(self, wish: Wish, *, chance: bool) -> bool:
        """Whether this call looks in the cache at all. `chance`: its answer is made by chance."""
        if wish.no_store:
            return False
        if wish.max_age is not None or wish.only_if_cached:
            return True
        return self.ttl > 0 and (self.sampled or not chance)


class Wish(NamedTuple):
    """What the client asks of the cache. `max_age` in seconds: nothing older; where the policy
    keeps nothing by itself, it also asks that the answer be kept for so long. `exact`: only the
    answer to this very question, not to one that is nearly the same."""

    max_age: float | None = None
    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    exact: bool = False


NO_WISH = Wish()
_FLAGS: Mapping[str, str] = {
    "no-store": "no_store",
    "no-cache": "no_cache",
    "only-if-cached": "only_if_cached",
    "exact": "exact",
}


def parse_wish(header: str) -> Wish:
    """Raises InvalidRequest: who says something about the cache wants to be understood."""
    if len(header) > MOST_WORDS:
        raise _invalid(f"{HEADER} may have {MOST_WORDS} characters at most.")
    said: dict[str, Any] = {}
    for word in header.split(","):
        name, equals, value = word.strip().partition("=")
        name = name.lower()
        field = _FLAGS.get(name, "max_age" if name == "max-age" else "")
        if not field or (equals and field != "max_age"):
            raise _invalid(
                f"{HEADER} takes max-age=<seconds>, no-store, no-cache, only-if-cached and exact, "
                "with commas between them."
            )
        if field in said:
            raise _invalid(f"{HEADER} says {name} twice. Say it once.")
        said[field] = _seconds(value) if field == "max_age" else True
    return _without_contradiction(Wish(**said))


def is_by_chance(operation: str, params: Mapping[str, Any]) -> bool:
    """Whether asking again gives another answer: a model's images, and its words unless its
    temperature is 0."""
    if operation == "image.generations":
        return True
    return operation == "chat.completions" and params.get("temperature") != 0


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and int(text) <= MOST_SECONDS):
        raise _invalid(f"max-age in {HEADER} is whole seconds, {MOST_SECONDS} at most.")
    return float(text)


def _without_contradiction(wish: Wish) -> Wish:
    if wish.only_if_cached and (wish.no_store or wish.no_cache):
        raise _invalid(f"{HEADER}: only-if-cached goes with neither no-store nor no-cache.")
    if wish.no_store and wish.max_age is not None:
        raise _invalid(f"{HEADER}: max-age asks for what no-store forbids. Say one of them.")
    return wish


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(
        detail, param=HEADER, errors=[{"detail": detail, "pointer": f"/{HEADER}"}]
    )
