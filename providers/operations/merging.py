"""Several providers' answers to one question, made one: a list without doubles, or one figure.

Pure functions over canonical items. An operation's file says by what two items are the same:

    merge: {keys: [{isbn: [isbn13]}, …], join: [isbn13, external_ids]}     of a list
    merge: {median: [price, open, …], agree: [currency]}                   of one record
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

from providers.operations.sameness import Key, groups, parse_key

SOURCES: Final = "sources"
SPREAD: Final = "spread"
PLACES: Final = 30  # the most that a canonical decimal has after its point
# More digits than a sum of two decimals of 30 digits on either side of the point has.
_EXACT = Context(prec=80)

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Merge:
    """Of lists: `keys` say which items are one, and of the fields in `join` all that any of them
    says is kept. Of single records: each figure in `median` is the median, the first one is what
    the answers' spread is about, and only answers that say the same in `agree` count together."""

    keys: tuple[Key, ...] = ()
    join: tuple[str, ...] = ()
    median: tuple[str, ...] = ()
    agree: tuple[str, ...] = ()


class Told(NamedTuple):
    """What one provider says: a record, or the items of a list."""

    provider: str
    data: Any
    as_of: str = ""


def parse(document: Mapping[str, Any] | None) -> Merge | None:
    """An operation's `merge`. Raises ValueError, KeyError or TypeError for what is none."""
    if document is None:
        return None
    keys = tuple(map(parse_key, document.get("keys", ())))
    join, median = tuple(document.get("join", ())), tuple(document.get("median", ()))
    if bool(keys) is bool(median):
        raise ValueError("`merge` needs either keys or median")
    return Merge(keys, join, median, tuple(document.get("agree", ())))


def merged(merge: Merge, told: Sequence[Told]) -> list[Item]:
    """The items of all lists, those of the first list first, each in its order and each thing
    once. `sources` names who has it: the first one's fields win, what it leaves out is filled in
    from the next."""
    items = [{**item, SOURCES: [each.provider]} for each in told for item in each.data]
    joined = (*merge.join, SOURCES)
    while True:
        found = groups(items, merge.keys)  # type: ignore[arg-type]
        if len(found) == len(items):
            return items
        items = [_filled([items[place] for place in group], joined) for group in found]
        if all(key.is_plain for key in merge.keys):
            return items
        # What was filled in may show that two of them are one after all.


def consensus(merge: Merge, told: Sequence[Told]) -> tuple[Item, list[Item]]:
    """One record of several, and what it was made of: each provider's own value, with
    `left_out` naming the field in which it differs from the first that tells it."""
    counted, sources = [], []
    figure = merge.median[0]
    agreed: Item = {}
    for each in told:
        apart = _apart(merge.agree, agreed, each.data)
        source = {"provider": each.provider, "value": each.data[figure], "as_of": each.as_of}
        sources.append(source if apart is None else source | {"left_out": apart})
        if apart is None:
            counted.append(each.data)
            agreed = _filled([agreed, {name: each.data.get(name) for name in merge.agree}])
    record = _filled(counted)
    for name in merge.median:
        values = [item[name] for item in counted if name in item]
        if values:
            record[name] = median(values)
    record[SPREAD] = spread([item[figure] for item in counted])
    return record, sources


def median(values: Sequence[str]) -> str:
    """Of decimals as text, exactly: the middle one as it was written, or half of the two."""
    ordered = sorted(values, key=Decimal)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    total = _EXACT.add(Decimal(ordered[middle - 1]), Decimal(ordered[middle]))
    return _text(_EXACT.divide(total, Decimal(2)))


def spread(values: Sequence[str]) -> str:
    """The highest less the lowest, exactly."""
    each = list(map(Decimal, values))
    return _text(_EXACT.subtract(max(each), min(each)))


def _text(value: Decimal) -> str:
    """In plain digits. Half of the very last place that a decimal may have is rounded to even."""
    _, _, exponent = value.as_tuple()
    if isinstance(exponent, int) and exponent < -PLACES:
        value = value.quantize(Decimal(1).scaleb(-PLACES), context=_EXACT)
    return format(value, "f")


def _apart(names: Iterable[str], agreed: Item, record: Item) -> str | None:
    """The first field in which a record says something else than was said before."""
    for name in names:
        ours, theirs = agreed.get(name), record.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            return name
    return None


def _filled(items: Sequence[Item], joined: Iterable[str] = ()) -> Item:
    """The first item, with what only the later ones say."""
    whole = dict(items[0])
    for item in items[1:]:
        for name, value in item.items():
            if whole.get(name) is None:
                whole[name] = value
            elif name in joined:
                whole[name] = _joined(whole[name], value)
    return whole


def _joined(ours: Any, theirs: Any) -> Any:
    """Lists one after another without repetition, objects field by field; else ours."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return list(dict.fromkeys([*ours, *theirs]))
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return {**theirs, **ours}
    return ours
