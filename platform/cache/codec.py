"""Entries as bytes for the shared store, and back.

    PBC, 5 bytes: version | 16 bytes: who wrote it | 4 bytes: the head's length | head, JSON | body

The version is what an entry is made of: of another one's, in the middle of an upgrade, it is none.
The seal is a keyed hash of the key and of all that follows: torn bytes, another version's, another
installation's, or those of an entry that was put under another key are no entry.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from typing import Any

import orjson

from cache.compression import Torn
from cache.entry import Entry, Origin
from cache.freshness import Freshness
from providers.call import Usage

SEAL_BYTES = 16
_OF_FRESHNESS = tuple(field.name for field in dataclasses.fields(Freshness))
_OF_ORIGIN = tuple(field.name for field in dataclasses.fields(Origin) if field.name != "usage")
_PLAIN = ("plain_size", "etag", "status", "events", "headers", "vary", "ttl", "empty")
_MADE_OF = repr((_PLAIN, _OF_FRESHNESS, _OF_ORIGIN, Usage._fields)).encode()
VERSION = b"PBC" + hashlib.blake2b(_MADE_OF, digest_size=5).digest()
_HEAD = len(VERSION) + SEAL_BYTES
_BODY = _HEAD + 4


class Codec:
    """`secret` is the same for all workers of an installation."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(secret, digest_size=32, person=b"patchbay cache c").digest()

    def encode(self, key: bytes, entry: Entry) -> bytes:
        document: dict[str, Any] = {name: getattr(entry, name) for name in _PLAIN}
        document["freshness"] = _fields(entry.freshness)
        document["origin"] = [*_fields(entry.origin), list(entry.origin.usage)]
        document["tags"] = [tag.hex() for tag in entry.tags]
        head = orjson.dumps(document)
        rest = len(head).to_bytes(4, "big") + head + entry.packed
        return VERSION + self._seal(key, rest) + rest

    def decode(self, key: bytes, data: bytes, *, made: int) -> Entry:
        """`made`: this worker's moment before it asked for it. Raises Torn."""
        if not data.startswith(VERSION):
            raise Torn("of another version")
        seal, rest = data[len(VERSION) : _HEAD], data[_HEAD:]
        if not hmac.compare_digest(seal, self._seal(key, rest)):
            raise Torn("not what was written here")
        end = _BODY + int.from_bytes(data[_HEAD:_BODY], "big")
        return _entry(orjson.loads(data[_BODY:end]), data[end:], made)

    def _seal(self, key: bytes, rest: bytes) -> bytes:
        digest = hashlib.blake2b(key, key=self._secret, digest_size=SEAL_BYTES)
        digest.update(rest)
        return digest.digest()


def _fields(value: Origin | Freshness) -> list[Any]:
    names = _OF_ORIGIN if isinstance(value, Origin) else _OF_FRESHNESS
    return [getattr(value, name) for name in names]


def _entry(document: dict[str, Any], packed: bytes, made: int) -> Entry:
    """The seal was right: it is what `encode` wrote."""
    *origin, usage = document["origin"]
    return Entry(
        packed=packed,
        plain_size=document["plain_size"],
        freshness=Freshness(*document["freshness"]),
        etag=document["etag"],
        origin=Origin(**dict(zip(_OF_ORIGIN, origin, strict=True)), usage=Usage(*usage)),
        status=document["status"],
        events=tuple(document["events"]),
        headers=_pairs(document["headers"]),
        vary=_pairs(document["vary"]),
        ttl=document["ttl"],
        empty=document["empty"],
        made=made,
        tags=tuple(map(bytes.fromhex, document["tags"])),
    )


def _pairs(listed: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in listed)
