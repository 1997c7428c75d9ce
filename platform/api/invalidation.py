"""What of the cache is to be forgotten, in the words of whoever says so, and on whose word it was.

One thing at a time: `tag`, `operation`, `tenant`, `provider`, `model`, `route`, `key`, or `all`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Q

from accounts.models import User
from api import caches
from api.faults import refusal
from api.vitals import WORKER
from cache import naming
from cache.cache import Cache
from cache.tags import ID_BYTES
from lib.problems import Unavailable
from providers.models import Model, Provider
from providers.operations import registry
from tenants.models import Tenant

log = structlog.get_logger("patchbay.cache")

ALL = "all"
LONGEST = 300  # characters


class Named(NamedTuple):
    """`which` of `what`, and the tags, or the keys' ids, that this comes to; neither is all."""

    what: str
    which: str
    tags: tuple[str, ...] = ()
    keys: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        return f"{self.what} {self.which}".strip()


EVERYTHING = Named(ALL, "")


def named(what: str, which: str) -> Named:
    """Raises InvalidRequest (422), where there is no such thing too: a slip of the pen would
    else pass for done."""
    try:
        if not which or len(which) > LONGEST or not which.isprintable():
            raise _NoSuchThing(f"Must be 1 to {LONGEST} printable characters.")
        if what == "key":
            return Named(what, which, keys=(_id(which),))
        return Named(what, which, tags=(_tag(which) if what == "tag" else _TAGS[what](which),))
    except _NoSuchThing as fault:
        raise refusal(iter([{"detail": str(fault), "pointer": f"/{what}"}])) from None


def invalidate(what: Named, *, by: str, reason: str = "", user: User | None = None) -> bool:
    """Forget it on this gateway by when this returns, and on all others within a second; those
    hear of it later where it returns False: the store is away. Raises Unavailable where
    nobody can be told."""
    everywhere = caches.reach(lambda cache: _forget(cache, what))
    if not everywhere and WORKER.cache() is None:
        raise Unavailable(
            "The store is away, so no gateway could be told. Try again.",
            code="store_unavailable",
            retry_after=2,
        )
    log.warning("cache_invalidated", what=what.what, which=what.which, by=by, reason=reason)
    if user is not None:
        _note(what, reason, user)
    return everywhere


async def _forget(cache: Cache, what: Named) -> bool:
    if what.tags or what.keys:
        return await cache.invalidate(what.tags, what.keys)
    return await cache.invalidate_all()


def _note(what: Named, reason: str, user: User) -> None:
    """In the admin's history. It is about no row."""
    told = f"Invalidated {what}" + (f": {reason}" if reason else "")
    LogEntry.objects.create(
        user_id=user.pk, object_repr="Cache", action_flag=CHANGE, change_message=told
    )


class _NoSuchThing(ValueError):
    """What to say of it."""


def _tag(text: str) -> str:
    kind, colon, rest = text.partition(":")
    if not (kind and colon and rest):
        raise _NoSuchThing("Must be a name and a value, such as symbol:AAPL.")
    return _TAGS[kind](rest) if kind in _TAGS else text


def _tenant(text: str) -> int:
    """People know tenants by their slugs or public ids, tags have their numbers."""
    found = Tenant.objects.filter(Q(slug=text) | Q(public_id=text)).first()
    if found is None:
        raise _NoSuchThing("No tenant has this slug or id.")
    tenant_id: int = found.pk
    return tenant_id


def _client(text: str) -> str:
    whose, _, name = text.partition(":")
    if not naming.is_name(name):
        raise _NoSuchThing("Must be client:<tenant>:<name>, as calls say the name.")
    return naming.of_client(_tenant(whose), [name])[0]


def _operation(name: str) -> str:
    if name not in registry():
        raise _NoSuchThing("There is no such operation.")
    return f"operation:{name}"


def _provider(slug: str) -> str:
    if not Provider.objects.filter(slug=slug).exists():
        raise _NoSuchThing("There is no such provider.")
    return f"provider:{slug}"


def _model(name: str) -> str:
    slug, _, model_id = name.partition("/")
    if not Model.objects.filter(provider__slug=slug, model_id=model_id).exists():
        raise _NoSuchThing("There is no such model. Say it as provider/model.")
    return f"model:{name}"


def _id(text: str) -> bytes:
    try:
        made = bytes.fromhex(text)
    except ValueError:
        made = b""
    if len(made) != ID_BYTES or made.hex() != text:
        raise _NoSuchThing(f"Must be {2 * ID_BYTES} lower-case hexadecimal digits.")
    return made


# Of the tags that we give. A route's name may be a model's that no row has an alias for, so it is
# not looked up.
_TAGS: Mapping[str, Callable[[str], str]] = {
    "operation": _operation,
    "tenant": lambda text: naming.of_tenant(_tenant(text)),
    "provider": _provider,
    "model": _model,
    "route": lambda name: f"route:{name}",
    "client": _client,
}
KINDS = ("tag", *(kind for kind in _TAGS if kind != "client"), "key")
