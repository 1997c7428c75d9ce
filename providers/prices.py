"""What a call costs at one price version, in whole µUSD."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lib.money import MICRO, per_million_rounded_up
from providers.call import Usage


@dataclass(frozen=True)
class Prices:
    """µUSD per million tokens or units, and µUSD per call; None is unknown, which is not the
    same as free.

    What was read from a provider's cache or written to it is part of the input, reasoning is
    part of the output: where these have no price of their own, they cost as what they are part
    of.
    """

    input: int | None = None
    output: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    unit: int | None = None
    call: int | None = None

    @cached_property
    def known(self) -> bool:
        return not (self.input is None and self.unit is None and self.call is None)

    @cached_property
    def _dearest_input(self) -> int:
        return max(self.input or 0, self.cached_input or 0, self.cache_write or 0)

    @cached_property
    def _dearest_output(self) -> int:
        return max(self.output or 0, self.reasoning or 0)

    def covers(self, usage: Usage) -> bool:
        """Whether everything that `usage` counts has a price. Units, of which every call has
        one at least, need none where tokens or calls have one."""
        return (
            self.known
            and not (usage.input_tokens > 0 and self.input is None)
            and not (usage.output_tokens > 0 and self.output is None)
        )

    def billed(self, usage: Usage) -> Usage:
        """What these prices are for, of what may be billed by tokens or by units: the units alone,
        where only they have a price."""
        if self.unit is None or self.input is not None:
            return usage
        return Usage(units=usage.units, estimated=usage.estimated)

    def cost(self, usage: Usage) -> int:
        """µUSD for `usage`, rounded up once. Unknown prices count nothing.

        More tokens of a part than of the whole, or fewer than none, is a provider's error, and
        lowers no bill.
        """
        read = max(0, usage.input_tokens)
        written = _within(usage.cache_write_tokens, read)
        cached = _within(usage.cached_tokens, read - written)
        made = max(0, usage.output_tokens)
        reasoned = _within(usage.reasoning_tokens, made)
        return per_million_rounded_up(
            (read - written - cached) * (self.input or 0)
            + written * _or(self.cache_write, self.input)
            + cached * _or(self.cached_input, self.input)
            + (made - reasoned) * (self.output or 0)
            + reasoned * _or(self.reasoning, self.output)
            + max(0, usage.units) * (self.unit or 0)
            + (self.call or 0) * MICRO
        )

    def worst(self, usage: Usage) -> int:
        """µUSD that no usage of as many tokens and units passes, whatever they turn out to be
        parts of."""
        return per_million_rounded_up(
            max(0, usage.input_tokens) * self._dearest_input
            + max(0, usage.output_tokens) * self._dearest_output
            + max(0, usage.units) * (self.unit or 0)
            + (self.call or 0) * MICRO
        )


def _within(part: int, whole: int) -> int:
    return min(max(0, part), whole)


def _or(price: int | None, whole: int | None) -> int:
    return price if price is not None else whole or 0
