"""Trying again: which target of a call that failed may be asked once more, and when.

Other targets go first: only a call that has no other left waits and asks again, and then the
target that may be asked soonest. Another credential of the same target needs no wait.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.routing import Candidate, Plan
from gateway.strategies import Random
from lib.clock import Clock
from providers.call import Outcome
from providers.credential_pool import OF_THE_CREDENTIAL, CredentialPool
from providers.retry_budget import RetryBudget, RetryBudgets
from providers.retry_policy import RetryPolicy


@dataclass(slots=True)
class Retrying:
    """What all calls of a worker have in common about it. `sleep` and `random` are for tests to
    replace."""

    clock: Clock
    random: Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    budgets: RetryBudgets = field(default_factory=RetryBudgets)
    pool: CredentialPool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = CredentialPool(self.clock)

    def budget(self, candidate: Candidate) -> RetryBudget:
        """Its provider's; in test mode, where failures are scripted, the tenant's own."""
        return self.budgets.of(candidate.breakers[0])


@dataclass(slots=True)
class _Standing:
    """Of a target that failed: tries so far, and from when on (the clock's monotonic seconds)
    it may be asked again."""

    tries: int = 0
    again_at: float = math.inf


class Retries:
    """One call's, from its first failure on."""

    def __init__(self, retrying: Retrying, plan: Plan) -> None:
        self._retrying = retrying
        self._plan = plan
        self._standings: dict[int, _Standing] = {}

    def tried(self, place: int) -> bool:
        return place in self._standings

    def failed(self, place: int, outcome: Outcome) -> bool:
        """An attempt there has failed so. Whether it may be tried at once with another of its
        credentials, which is then paid for."""
        standing = self._standings.setdefault(place, _Standing())
        standing.tries += 1
        candidate = self._plan.candidates[place]
        if standing.tries >= candidate.target.provider.retry.max_attempts:
            standing.again_at = math.inf
            return False
        wait = self._wait(candidate, outcome, standing.tries)
        standing.again_at = self._retrying.clock.monotonic() + wait
        return self._has_another(candidate, outcome) and self._retrying.budget(candidate).take(
            lend=True
        )

    async def wait(self, deadline: float, is_open: Callable[[Candidate], bool]) -> int | None:
        """Wait for the target that may be asked again soonest, which is then paid for; its
        place. None, at once, where none may be by `deadline` (the loop's time). `is_open` tells
        whether a breaker before a target is."""
        now = self._retrying.clock.monotonic()
        left = deadline - asyncio.get_running_loop().time()
        for place in sorted(self._standings, key=lambda place: self._standings[place].again_at):
            standing, candidate = self._standings[place], self._plan.candidates[place]
            wait = max(0.0, standing.again_at - now)
            if wait >= left:
                return None
            if not is_open(candidate) and self._retrying.budget(candidate).take():
                standing.again_at = math.inf  # unless it is tried, and fails once more
                await self._retrying.sleep(wait)
                return place
        return None

    def _wait(self, candidate: Candidate, outcome: Outcome, tries: int) -> float:
        """Seconds until it may be asked again: as long as the provider says, and no less than a
        random while."""
        if not outcome.retryable:
            return math.inf
        longest = longest_wait(candidate.target.provider.retry, tries)
        wait = self._retrying.random.random() * longest
        if outcome.verdict in OF_THE_CREDENTIAL and candidate.upstream.credential:
            return max(wait, self._retrying.pool.seconds_left(candidate.upstreams))
        return max(wait, outcome.retry_after or 0.0)

    def _has_another(self, candidate: Candidate, outcome: Outcome) -> bool:
        return (
            outcome.verdict in OF_THE_CREDENTIAL
            and len(candidate.upstreams) > 1
            and not self._retrying.pool.seconds_left(candidate.upstreams)
        )


def longest_wait(policy: RetryPolicy, number: int) -> float:
    """Seconds before the retry of that number (from 1), at most."""
    doubled = policy.base_seconds * 2.0 ** min(number - 1, 60)
    return min(policy.max_seconds, doubled)
