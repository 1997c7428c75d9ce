"""How many further tries a provider may be asked for: a share of the calls it gets, never more.

What fails for everybody must not be asked three times as often as it is called. A provider's
budget grows with every first try and shrinks with every further one, so the share holds at every
moment since the process began, and over all workers, since it holds for each.
"""

from __future__ import annotations

from providers.retry_policy import RetryPolicy

CARRIED = 10  # tries saved up at most: a quiet hour pays for no storm
LENT = 2  # so many with another credential a young process may make before they are earned
_ONE = 100.0  # a try's price: the budget grows by per cent


class RetryBudget:
    """One provider's. Over any calls since the process began, `further` ≤ the policy's per cent
    of the first tries, or LENT where that is more and another credential was tried."""

    __slots__ = ("_saved", "further")

    def __init__(self) -> None:
        self.further = 0
        self._saved = 0.0

    def first(self, policy: RetryPolicy) -> None:
        """A call is tried there for the first time."""
        saved = self._saved + policy.budget_percent
        self._saved = saved if saved < CARRIED * _ONE else CARRIED * _ONE

    def take(self, *, lend: bool = False) -> bool:
        """Whether one try more may be made, which is then counted. `lend`: it is one with
        another credential, for which what is not saved yet may be lent."""
        if self._saved < _ONE and not (lend and self.further < LENT):
            return False
        self._saved -= _ONE
        self.further += 1
        return True


class RetryBudgets:
    """One a provider, and a tenant's own in test mode; made when first asked for."""

    MOST = 10_000

    def __init__(self) -> None:
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, name: str) -> RetryBudget:
        budget = self._budgets.get(name)
        if budget is None:
            if len(self._budgets) >= self.MOST:
                self._budgets.clear()  # all begin with nothing saved
            budget = self._budgets[name] = RetryBudget()
        return budget
