"""The file's prices: those of a provider's `models`, and its own list of `prices`.

A price is never changed once it is in force: where the file says another, a new version takes
over, from now on or from the moment that the file says.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from api.configuration.document import Place
from api.configuration.run import Kind, Run
from billing.models import PER_THOUSAND, Price
from billing.services import add_price, prices_in_force
from lib.clock import rfc3339
from lib.money import to_micro, to_usd
from providers.models import Provider
from providers.operations import registry
from providers.prices import Prices

OF_MODELS = {
    "input_usd_per_million": "input",
    "output_usd_per_million": "output",
    "cached_input_usd_per_million": "cached_input",
    "cache_write_usd_per_million": "cache_write",
    "usd_per_thousand_units": "unit",
}
KINDS = OF_MODELS | {
    "reasoning_usd_per_million": "reasoning",
    "usd_per_call": "call",
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the file says that something costs."""

    provider: Provider
    model_id: str
    operation: str
    prices: Prices


def apply_model_price(run: Run, provider: Provider, item: Mapping[str, Any], place: Place) -> None:
    """What a model's entry says of its price; of what it does not name, all stays."""
    named = _amounts(run, item, OF_MODELS, place)
    if named:
        present = prices_in_force(provider).get((item["id"], ""))
        prices = replace(present.prices if present else Prices(), **named)
        _take_over(run, _Wanted(provider, item["id"], "", prices), place)


def apply_price(run: Run, provider: Provider, item: Mapping[str, Any], place: Place) -> None:
    """One entry of `prices`, which says all of a version."""
    operation = item.get("operation", "")
    if operation and operation not in registry():
        raise run.fault((*place, "operation"), f"There is no operation {operation}.")
    prices = Prices(**_amounts(run, item, KINDS, place))
    wanted = _Wanted(provider, item.get("model", ""), operation, prices)
    if "effective_from" in item:
        _put_version(run, wanted, dt.datetime.fromisoformat(item["effective_from"]), place)
    else:
        _take_over(run, wanted, place)


def price_items(provider: Provider, *, ours: bool, in_models: set[str]) -> list[dict[str, Any]]:
    """What `prices` must say of a provider: the versions in force and those to come, without
    what its models' entries say, and without shipped ones unless `ours`."""
    now = timezone.now()
    versions = [*prices_in_force(provider, now).values()]
    versions += Price.objects.filter(provider=provider, effective_from__gt=now)
    return [
        _item(price)
        for price in sorted(versions, key=lambda p: (p.model_id, p.operation, p.effective_from))
        if (ours or price.source == Provider.Source.OPERATOR)
        and not (price.effective_from <= now and price.model_id in in_models and _is_plain(price))
    ]


def model_price_item(price: Price | None) -> dict[str, str]:
    """What a model's own entry says of its price: all, or nothing where it cannot say all."""
    return _texts(price.prices) if price is not None and _is_plain(price) else {}


def _is_plain(price: Price) -> bool:
    kinds = {kind for kind, amount in asdict(price.prices).items() if amount is not None}
    return not price.operation and kinds <= set(OF_MODELS.values())


def _item(price: Price) -> dict[str, Any]:
    named = {"model": price.model_id, "operation": price.operation}
    item = {name: value for name, value in named.items() if value}
    return item | {"effective_from": rfc3339(price.effective_from)} | _texts(price.prices)


def _texts(prices: Prices) -> dict[str, str]:
    """USD by the file's names."""
    amounts = asdict(prices)
    return {
        name: to_usd(amounts[kind] // (PER_THOUSAND if kind == "unit" else 1))
        for name, kind in KINDS.items()
        if amounts[kind] is not None
    }


def _amounts(
    run: Run, item: Mapping[str, Any], kinds: Mapping[str, str], place: Place
) -> dict[str, int]:
    return {
        kind: _micro(run, item[name], (*place, name)) * (PER_THOUSAND if kind == "unit" else 1)
        for name, kind in kinds.items()
        if name in item
    }


def _micro(run: Run, usd: str | float, place: Place) -> int:
    try:
        return to_micro(str(usd))
    except ValueError:
        raise run.fault(place, "Must be USD with at most six decimals.") from None


def _take_over(run: Run, wanted: _Wanted, place: Place) -> None:
    """Have it in force from now on, unless it is already."""
    present = prices_in_force(wanted.provider).get((wanted.model_id, wanted.operation))
    if present is None:
        run.tell(Kind.ADDED, f"price {_add(run, wanted, place).what}")
    elif present.prices != wanted.prices:
        details = _differing(present.prices, wanted.prices)
        run.tell(Kind.CHANGED, f"price {_add(run, wanted, place).what}", details)


def _put_version(run: Run, wanted: _Wanted, moment: dt.datetime, place: Place) -> None:
    """Have it in force from `moment` on. Only a version that is yet to come may change."""
    version = Price.objects.filter(
        provider=wanted.provider,
        model_id=wanted.model_id,
        operation=wanted.operation,
        effective_from=moment,
    ).first()
    if version is None:
        added = _add(run, wanted, place, moment)
        run.tell(Kind.ADDED, f"price {added.what}", [f"from {rfc3339(moment)}"])
    elif version.prices != wanted.prices:
        if moment <= timezone.now():
            raise run.fault(
                place,
                f"A price has been in force from {rfc3339(moment)} and never changes. "
                "Give the new one another `effective_from`, or none for from now on.",
            )
        run.put(version, asdict(wanted.prices), what=f"price {version.what}", place=place)


def _add(run: Run, wanted: _Wanted, place: Place, moment: dt.datetime | None = None) -> Price:
    try:
        return add_price(
            provider=wanted.provider,
            model_id=wanted.model_id,
            operation=wanted.operation,
            prices=wanted.prices,
            effective_from=moment,
        )
    except ValidationError as error:
        raise run.refusal(place, error) from None


def _differing(before: Prices, after: Prices) -> list[str]:
    old, new = _texts(before), _texts(after)
    return [
        f"{name} {old.get(name, 'unknown')} → {new.get(name, 'unknown')}"
        for name in KINDS
        if old.get(name) != new.get(name)
    ]
