"""The prices that ship, beside those that genai-prices knows today.

Prices change while nobody looks, so a difference is told and not a failure: whoever releases
brings the catalogue up to date. Runs where genai-prices is installed (CI installs it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from api.configuration.catalogue import shipped_prices
from lib.money import MICRO
from providers.call import Usage
from providers.prices import Prices
from tests.chaos.reporting import FIGURES
from tests.shipped import FILES

TOKENS = 1000  # few enough for every model's first tier
ITS_NAMES = {"gemini": "google", "xai": "x-ai"}
SAMPLES = {
    "input": (Usage(input_tokens=TOKENS), {"input_tokens": TOKENS}),
    "output": (Usage(output_tokens=TOKENS), {"output_tokens": TOKENS}),
    "cached input": (
        Usage(input_tokens=TOKENS, cached_tokens=TOKENS),
        {"input_tokens": TOKENS, "cache_read_tokens": TOKENS},
    ),
}


def shipped() -> Iterator[tuple[str, str, Prices]]:
    for file in FILES:
        for item in file.models:
            prices = shipped_prices(item)
            if prices.known and prices.input:  # what runs at home is free
                yield file.slug, item["id"], prices


def test_there_is_something_to_compare() -> None:
    assert len(list(shipped())) > 50


def test_the_shipped_prices_beside_genai_prices(
    record_property: Callable[[str, object], None],
) -> None:
    oracle = pytest.importorskip("genai_prices")
    compared, unknown, differing = 0, 0, []
    for provider, model, prices in shipped():
        try:
            told = {kind: _told(oracle, provider, model, its) for kind, (_, its) in SAMPLES.items()}
        except LookupError:
            unknown += 1
            continue
        compared += 1
        wrong = [
            f"{kind} {prices.cost(ours)} ≠ {told[kind]} µUSD"
            for kind, (ours, _) in SAMPLES.items()
            if abs(prices.cost(ours) - told[kind]) >= 1
        ]
        if wrong:
            differing.append(f"{provider}/{model}: {', '.join(wrong)} for {TOKENS} tokens")
    counts = f"{compared} compared, {unknown} unknown to it, {len(differing)} differ"
    record_property(FIGURES, "\n  ".join([f"prices beside genai-prices: {counts}", *differing]))
    assert compared > unknown


def _told(oracle: Any, provider: str, model: str, tokens: dict[str, int]) -> Decimal:
    """µUSD for the tokens alone: some providers take something per request, too. Raises
    LookupError for what it does not know."""

    def price(**counts: int) -> Decimal:
        usage = oracle.Usage(**counts)
        its_name = ITS_NAMES.get(provider, provider)
        total: Decimal = oracle.calc_price(usage, model, provider_id=its_name).total_price
        return total * MICRO

    return price(**tokens) - price(input_tokens=0)
