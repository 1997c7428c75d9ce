"""What an answer is kept under: a keyed hash of all that the answer may depend on.

Each part is hashed with its length before it, so no two different calls run into the same
bytes; and under a secret, so that who reads the shared store can try no guesses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

DIGEST_BYTES = 32
MOST_PLACES = 10_000
WHOLE = (-(2**63), 2**64)  # orjson reads and writes whole numbers from … to below

# How an answer is delivered is not what it says: a stream and a whole answer are one.
_DELIVERY: Mapping[str, frozenset[str]] = {
    "chat.completions": frozenset({"stream", "stream_options"}),
    "embeddings": frozenset(),
}
_NONE: frozenset[str] = frozenset()


class Place(NamedTuple):
    """Whose answers, of what, and from where: all of a key but the request itself.

    `tenant_id` is None where everybody has the same answer. `route` is its name, and
    `configuration` says which state of it and of its providers: an answer under an older one is
    not found any more. `provider` and `fallback` are the caller's own constraints, `together` is
    how many providers' answers are combined, and how. `own` are the tenant's own credentials that
    may be used; an answer got with them is never anybody else's.
    """

    tenant_id: int | None
    mode: str
    operation: str
    version: str = "v1"
    route: str = ""
    configuration: str = ""
    provider: str = ""
    fallback: bool = True
    own: tuple[str, ...] = ()
    extra: bool = False
    together: str = ""


class Keys:
    """Makes the keys of one installation. `secret` is the same for all its workers."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(secret, digest_size=32, person=b"patchbay cache k").digest()
        self._places: dict[Place, Any] = {}

    def key(self, place: Place, params: Mapping[str, Any]) -> bytes:
        """32 bytes. `params` is JSON that was read, and is not changed."""
        begun = self._places.get(place) or self._begin(place)
        digest = begun.copy()
        digest.update(canonical(place.operation, params))
        return bytes(digest.digest())

    def _begin(self, place: Place) -> Any:
        """The hash so far: it is the same for most of the calls that come."""
        if place.own and place.tenant_id is None:
            raise ValueError("what a tenant's own credential is given is not for everybody")
        if len(self._places) >= MOST_PLACES:
            self._places.clear()
        digest = hashlib.blake2b(key=self._secret, digest_size=DIGEST_BYTES)
        for part in _parts(place):
            digest.update(len(part).to_bytes(4, "big") + part)
        self._places[place] = digest
        return digest


def canonical(operation: str, params: Mapping[str, Any]) -> bytes:
    """Equal JSON values as equal bytes, however they were spelled: members in order, and a whole
    number without a fraction (RFC 8785 does so too). Text stays as it is, character by character:
    what looks alike in another Unicode form may be answered otherwise."""
    left_out = _DELIVERY.get(operation, _NONE)
    asked = {name: _plain(value) for name, value in params.items() if name not in left_out}
    return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is float and value.is_integer() and WHOLE[0] <= value < WHOLE[1]:
        return int(value)
    if kind is dict:
        return {name: _plain(each) for name, each in value.items()}
    if kind is list:
        return [_plain(each) for each in value]
    return value


def _parts(place: Place) -> list[bytes]:
    """Lists say how long they are, so that nothing can pass from one part to the next."""
    whose = b"" if place.tenant_id is None else b"%d" % place.tenant_id
    own = [len(place.own).to_bytes(4, "big"), *(name.encode() for name in place.own)]
    names = (place.mode, place.operation, place.version, place.route, place.configuration)
    flags = b"%d%d" % (place.fallback, place.extra)
    asked = (place.provider.encode(), place.together.encode())
    return [whose, *(name.encode() for name in names), *asked, flags, *own]
