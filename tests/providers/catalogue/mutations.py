"""Answers that no provider should give: an example's, changed by chance from a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

DEEP = "@deep@"
"""Stands in a document for what is nested as deeply as the next of `DEPTHS` says."""
DEPTHS = (60, 300, 1000, 20_000)
HUGE_TEXT = "x" * 100_000
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**40, -(10**40)),
    *(0.1, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "-", "NaN", "Infinity", "1e999", "9" * 400, "1,5", "null", "true", "\x00"),
    *("2026-02-30", "0000-00-00", "9999-12-31T23:59:60Z", "٣", "½", "\ud800", "\u202e", "🜲"),
    *("<script>", "{{base}}", "../../etc", "http://169.254.169.254/", "a" * 300, HUGE_TEXT),
    *([], [[]], [None], {}, {"": ""}, [{}], {"a": {"a": {"a": []}}}, [1, "a", None, {}], DEEP),
)
NAMES = ("content-type", "retry-after", "date", "x-ratelimit-remaining", "x-ratelimit-reset")
HEADERS = ("", "nan", "inf", "-1", "1e400", "9" * 50, "soon", "Wed, 99 Foo 2026", "text/html", "é")
STATUSES = (
    200,
    200,
    200,
    200,
    201,
    204,
    299,
    304,
    400,
    401,
    403,
    404,
    410,
    418,
    429,
    500,
    503,
    599,
)
HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">'
    b'<!ENTITY d "&c;&c;&c;&c;&c;&c;"><!ENTITY e SYSTEM "file:///etc/passwd">]><a>&d;&e;</a>'
)
BODIES = (
    *(b"", b"null", b" ", b"\x00", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, HTML, BOMB),
    *(b"<a>" * 1000, b"<a" + b" b='c'" * 3, b"true", b"0", b'""', b"[]", b"{}", b"[null]", b"-"),
    *(b'{"a":1,"a":[2]}', b"\xef\xbb\xbf{}", b"\x1f\x8b\x08\x00junk", b'{"a": NaN}', b"1e400"),
)
ENCODINGS = ("utf-16", "utf-32", "latin-1", "utf-7", "utf-8-sig", "cp037")


class Mutant(NamedTuple):
    """An answer as it comes from the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def mutants(status: int, headers: Mapping[str, str], body: bytes, seed: str) -> Iterator[Mutant]:
    """Without end, and the same ones for the same seed."""
    chance = Random(seed)
    while True:
        changed = dict(headers)
        if chance.random() < 0.1:
            changed[chance.choice(NAMES)] = chance.choice(HEADERS)
        code = chance.choice(STATUSES) if chance.random() < 0.2 else status
        yield Mutant(code, changed, _body(body, chance))


def _body(body: bytes, chance: Random) -> bytes:
    way = chance.random()
    if way < 0.06:
        return chance.choice(BODIES)
    if way < 0.1:
        return body.decode("utf-8").encode(chance.choice(ENCODINGS), "replace")
    if way < 0.15:
        return _torn(body, chance)
    try:
        document = json.loads(body)
    except ValueError:
        return _torn_text(body, chance)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        document = _changed(document, chance)
    text = json.dumps(document)
    depth = chance.choice(DEPTHS)
    deep = chance.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth))
    return text.replace(f'"{DEEP}"', deep).encode("utf-8", "surrogatepass")


def _torn(body: bytes, chance: Random) -> bytes:
    """Cut off, or with some bytes changed."""
    if chance.random() < 0.3:
        return body[: chance.randrange(len(body) + 1)]
    torn = bytearray(body)
    for _ in range(chance.choice((1, 3, 20))):
        if torn:
            torn[chance.randrange(len(torn))] = chance.randrange(256)
    return bytes(torn)


def _torn_text(body: bytes, chance: Random) -> bytes:
    """XML, CSV and the like: a word of it is another."""
    words = body.split(b'"')
    value = str(chance.choice(VALUES)).encode("utf-8", "replace")
    words[chance.randrange(len(words))] = value
    return b'"'.join(words)


def _changed(document: Any, chance: Random) -> Any:
    """The document with one place of it changed."""
    places = list(_places(document))
    if not places or chance.random() < 0.03:
        return _value(chance)
    parent, key = chance.choice(places)
    way = chance.random()
    if way < 0.25:
        del parent[key]
    elif way < 0.75:
        parent[key] = _value(chance)
    else:
        parent[key] = _of_another_kind(parent[key], chance)
    return document


def _value(chance: Random) -> Any:
    """A copy, since a later change may go into it."""
    return copy.deepcopy(chance.choice(VALUES))


def _of_another_kind(value: Any, chance: Random) -> Any:
    if isinstance(value, dict):
        return chance.choice((list(value.values()), list(value), [value], str(value)))
    if isinstance(value, list):
        return chance.choice((value[:20] * 5, {str(i): v for i, v in enumerate(value)}, value[:1]))
    if isinstance(value, str):
        return chance.choice(([value], {"value": value}, value[:100] * 20, value[::-1], len(value)))
    return chance.choice((str(value), [value], {"value": value}))


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of every object and list."""
    if isinstance(document, dict | list):
        for key, value in list(
            document.items() if isinstance(document, dict) else enumerate(document)
        ):
            yield document, key
            yield from _places(value)
