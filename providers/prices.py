"""What a call costs at one model's prices, in whole µUSD."""

from __future__ import annotations

from dataclasses import dataclass

from lib.money import per_million_rounded_up
from providers.call import Usage


@dataclass(frozen=True, slots=True)
class Prices:
    """µUSD per million tokens; None is unknown, which is not the same as free."""

    input: int | None = None
    output: int | None = None
    cached_input: int | None = None

    @property
    def known(self) -> bool:
        return self.input is not None

    def cost(self, usage: Usage) -> int:
        """µUSD for `usage`, rounded up once. Unknown prices count nothing.

        Tokens read from a provider's cache cost `cached_input`, or `input` when there is no
        price of their own. More of them than input, or fewer than none, is a provider's error,
        and lowers no bill.
        """
        input_price = self.input or 0
        cached_price = input_price if self.cached_input is None else self.cached_input
        read = max(0, usage.input_tokens)
        cached = min(max(0, usage.cached_tokens), read)
        return per_million_rounded_up(
            (read - cached) * input_price
            + cached * cached_price
            + max(0, usage.output_tokens) * (self.output or 0)
        )
