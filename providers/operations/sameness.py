"""When two items of different providers are the same thing: by open keys, each in one written form.

A key's value that is no such key (a placeholder, a wrong check digit, a home page) counts as
none: rather the same thing twice than two things as one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

MOST_VALUES: Final = 100  # of one field of one item that are looked at
EARTH_KM: Final = 6371.0
KM_PER_DEGREE: Final = 111.0  # of latitude, at least
_PORTS: Final = {"http": 80, "https": 443}
_OF_CAMPAIGNS = re.compile(r"utm_\w+|[fgy]clid|dclid|msclkid|mc_[ce]id|igshid")
_ISBN_10, _ISBN_13 = re.compile(r"[0-9]{9}[0-9X]"), re.compile(r"97[89][0-9]{10}")
_GTIN = re.compile(r"[0-9]{8,14}")
_WORDS = re.compile(r"\w+")

Item = Mapping[str, Any]
Token = Hashable


@dataclass(frozen=True, slots=True)
class Key:
    """Items with equal values in all `fields` are one, once these are written as `form` says.

    `near` names a latitude and a longitude that must lie within `km` besides.
    """

    form: str
    fields: tuple[str, ...]
    near: tuple[str, str] | None = None
    km: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether one field alone says it, so that no filled-in field can make a new one."""
        return len(self.fields) == 1 and self.near is None

    @property
    def kind(self) -> Token:
        """An ISBN is one number, whichever field has it; other keys are told apart by theirs."""
        return self.form if self.form == "isbn" else (self.form, *self.fields)

    def tokens(self, item: Item) -> Iterator[Token]:
        """What the item is known by; nothing where a field is missing or no such key."""
        write = FORMS[self.form]
        if len(self.fields) == 1:
            for value in islice(_values(item, self.fields[0]), MOST_VALUES):
                if written := write(value):
                    yield self.kind, written
            return
        parts = tuple(write(next(_values(item, field), "")) for field in self.fields)
        if all(parts):
            yield self.kind, parts

    def place(self, item: Item) -> tuple[float, float] | None:
        """Latitude and longitude in degrees."""
        if self.near is None:
            return None
        lat, lon = (item.get(name) for name in self.near)
        return None if lat is None or lon is None else (float(lat), float(lon))


def parse_key(document: Mapping[str, Any]) -> Key:
    """`{form: [field, …]}`, and for places `near: [lat, lon], km: …`."""
    rest = dict(document)
    near, km = rest.pop("near", None), rest.pop("km", 0.0)
    ((form, fields),) = rest.items()
    if form not in FORMS:
        raise ValueError(f"{form} is no form of a key")
    return Key(form, tuple(fields), None if near is None else (near[0], near[1]), km)


def groups(items: list[Item], keys: Iterable[Key]) -> list[list[int]]:
    """The places of the items that are the same, each group and all of them in their order."""
    known = _Groups(len(items))
    seen: dict[Token, int] = {}
    for key in keys:
        if key.near is None:
            _join_equal(known, seen, items, key)
        else:
            _join_near(known, items, key)
    found: dict[int, list[int]] = {}
    for place in range(len(items)):
        found.setdefault(known.first(place), []).append(place)
    return list(found.values())


class _Groups:
    """Disjoint sets of places, each named by its first."""

    def __init__(self, count: int) -> None:
        self._before = list(range(count))

    def first(self, place: int) -> int:
        before = self._before
        while before[place] != place:
            before[place] = place = before[before[place]]
        return place

    def join(self, one: int, another: int) -> None:
        first, second = sorted((self.first(one), self.first(another)))
        self._before[second] = first


def _join_equal(known: _Groups, seen: dict[Token, int], items: list[Item], key: Key) -> None:
    for place, item in enumerate(items):
        for token in key.tokens(item):
            known.join(seen.setdefault(token, place), place)


def _join_near(known: _Groups, items: list[Item], key: Key) -> None:
    """Compared are those in the same band of latitude, `km` wide, and in the next ones."""
    seen: dict[Token, list[tuple[int, tuple[float, float]]]] = {}
    for place, item in enumerate(items):
        where = key.place(item)
        if where is None:
            continue
        band = math.floor(where[0] * KM_PER_DEGREE / key.km)
        for token in key.tokens(item):
            for beside in (band - 1, band, band + 1):
                for other, there in seen.get((token, beside), ()):
                    if is_near(where, there, key.km):
                        known.join(other, place)
            seen.setdefault((token, band), []).append((place, where))


def is_near(one: tuple[float, float], another: tuple[float, float], km: float) -> bool:
    """Whether two points (degrees) are no farther apart than `km`, on a round Earth."""
    if abs(one[0] - another[0]) * KM_PER_DEGREE > km:
        return False
    north, there = math.radians(one[0]), math.radians(another[0])
    half_up = math.sin((there - north) / 2)
    half_along = math.sin(math.radians(another[1] - one[1]) / 2)
    chord = half_up**2 + math.cos(north) * math.cos(there) * half_along**2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(chord))) <= km


def _values(item: Item, field: str) -> Iterator[str]:
    """A field's texts; a dot leads into an object."""
    value: Any = item
    for step in field.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str | int) and not isinstance(each, bool):
            yield str(each)


def code(text: str) -> str:
    """An identifier whose case does not count."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def words(text: str) -> str:
    """A name by its letters and digits."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def isbn(text: str) -> str:
    """ISBN-13, also of an ISBN-10."""
    plain = text.replace("-", "").replace(" ", "").upper()
    if _ISBN_13.fullmatch(plain):
        return plain if _has_check_digit(plain) else ""
    if not _ISBN_10.fullmatch(plain):
        return ""
    weighed = sum((10 - at) * (10 if c == "X" else int(c)) for at, c in enumerate(plain))
    return "" if weighed % 11 else _with_check_digit("978" + plain[:9])


def gtin(text: str) -> str:
    """GTIN-14, of which the shorter ones (EAN-8, UPC-A, EAN-13) are parts."""
    if not _GTIN.fullmatch(text) or not int(text):
        return ""
    return text.zfill(14) if _has_check_digit(text) else ""


def _has_check_digit(digits: str) -> bool:
    """GS1's: from the right the digits weigh 1, 3, 1, 3 …; in all a multiple of ten."""
    return _weighed(digits) % 10 == 0


def _with_check_digit(digits: str) -> str:
    return f"{digits}{-_weighed(digits + '0') % 10}"


def _weighed(digits: str) -> int:
    values = [ord(each) - 48 for each in digits[::-1]]
    return sum(values[::2]) + 3 * sum(values[1::2])


def url(text: str) -> str:
    """A page's address without what does not tell pages apart: scheme, `www.`, default port,
    fragment, a campaign's parameters and the order of the others. A home page is no key."""
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").removeprefix("www.").rstrip("."), parts.port
        query = parts.query
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100) if query else []
    except ValueError:
        return ""
    path = parts.path.rstrip("/")
    kept = sorted((name, value) for name, value in pairs if not _OF_CAMPAIGNS.fullmatch(name))
    if parts.scheme not in _PORTS or not host or not (path or kept):
        return ""
    where = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{where}{path}?{urlencode(kept, errors='surrogatepass')}"


FORMS: Final[Mapping[str, Callable[[str], str]]] = {
    "code": code,
    "words": words,
    "isbn": isbn,
    "gtin": gtin,
    "url": url,
}
