"""What an API key may be allowed: operations of the data path, or named rights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from django.core.exceptions import ValidationError

TENANT_RIGHTS: Final = frozenset(
    {"manage:tenant", "manage:projects", "manage:members", "manage:keys", "manage:cache"}
)
PLATFORM_RIGHTS: Final = frozenset({"health:read", "internal:read", "internal:write"})
"""These reach beyond one tenant: only staff may give them."""

_MANAGING = ("manage:", "internal:")
_DATA = re.compile(r"\*|[a-z][a-z0-9_]{0,31}(\.([a-z0-9_]{1,32}|\*)){0,2}", re.ASCII)


def is_right(scope: str) -> bool:
    """Whether it is a right (`manage:keys`, `manage:*`) and not an operation (`finance.*`)."""
    return ":" in scope


def rights_of(scope: str) -> frozenset[str]:
    """The rights a scope stands for: itself, or its whole family for `manage:*`."""
    known = TENANT_RIGHTS | PLATFORM_RIGHTS
    if scope.endswith(":*"):
        return frozenset(right for right in known if right.startswith(scope[:-1]))
    return frozenset({scope}) & known


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """The scopes, each once and in order. Raises ValidationError.

    A key that manages cannot call the data path: one leak is not to cost both.
    """
    if isinstance(scopes, str) or not all(isinstance(scope, str) for scope in scopes):
        raise ValidationError({"scopes": 'A list of scopes such as ["*"].'})
    unique = list(dict.fromkeys(scopes))
    if not unique:
        raise ValidationError({"scopes": 'Give at least one scope, such as "*".'})
    if len(unique) > 100:
        raise ValidationError({"scopes": "At most 100 scopes."})
    for scope in unique:
        if not (rights_of(scope) if is_right(scope) else _DATA.fullmatch(scope)):
            raise ValidationError({"scopes": f"{scope[:80]!r} is no scope."})
    manages = any(scope.startswith(_MANAGING) for scope in unique)
    if manages and not all(is_right(scope) for scope in unique):
        raise ValidationError(
            {"scopes": "A key that manages cannot call the data path. Make two keys."}
        )
    return unique
