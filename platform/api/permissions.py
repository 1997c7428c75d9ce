"""Who may do what: roles for people, rights (scopes such as `manage:keys`) for keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.identity import Identity
from accounts.models import Role
from lib.problems import Forbidden, Unauthenticated

EVERYONE = frozenset(Role.values)
BUILDERS = frozenset({Role.OWNER.value, Role.ADMIN.value, Role.DEVELOPER.value})
MANAGERS = frozenset({Role.OWNER.value, Role.ADMIN.value})


@dataclass(frozen=True, slots=True)
class Rule:
    """For one resource: the right a key needs, and the roles that may read and write it."""

    right: str
    read: frozenset[str] = EVERYONE
    write: frozenset[str] = MANAGERS

    def check(self, identity: Identity, *, write: bool) -> None:
        """Raises Forbidden."""
        if identity.tenant_id is None:
            raise Forbidden("You act for no tenant. Sign in with the `tenant` you belong to.")
        if identity.kind == "key":
            require_scope(identity, self.right)
        elif identity.role not in (self.write if write else self.read):
            raise Forbidden("Your role does not allow this. Ask an owner of the tenant.")


class ByRule(BasePermission):
    """The view's `rule` decides."""

    def has_permission(self, request: Request, view: Any) -> bool:
        view.rule.check(identity_of(request), write=request.method not in SAFE_METHODS)
        return True


class Operators(BasePermission):
    """Staff, and keys that staff gave `internal:read` or `internal:write`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        right = "internal:read" if request.method in SAFE_METHODS else "internal:write"
        if not identity.is_staff and identity.kind == "key":
            require_scope(identity, right)
        elif not identity.is_staff:
            raise Forbidden("Only staff may do this.")
        return True


class HealthReaders(BasePermission):
    """Staff, and keys with `health:read`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        identity = identity_of(request)
        if not identity.is_staff:
            require_scope(identity, "health:read")
        return True


def identity_of(request: Request) -> Identity:
    """The caller. Raises Unauthenticated."""
    if not isinstance(request.auth, Identity):
        raise Unauthenticated
    return request.auth


def require_scope(identity: Identity, scope: str) -> None:
    if not identity.may(scope):
        raise Forbidden(
            f"This needs the scope `{scope}`. Use a key that has it.",
            code="insufficient_scope",
            required_scope=scope,
        )
