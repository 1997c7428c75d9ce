"""Who acts, for the audit log: the person or key behind a request."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.identity import Identity
from accounts.models import User
from api.addresses import client_address
from api.problems import request_id_of
from lib.audit import Actor, acting

IMPERSONATOR = "impersonator"  # the session's key: staff who look at a tenant's pages as a member


class ActorMiddleware:
    """Whatever a view changes is told as done by who sent the request. Asked only when
    something is changed: API callers are known once the view has begun."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with acting(lambda: actor_of(request)):
            return self.get_response(request)


def actor_of(request: HttpRequest) -> Actor:
    kind, name = _who(request)
    return Actor(kind, name, client_address(request), request_id_of(request))


def _who(request: HttpRequest) -> tuple[str, str]:
    identity: Identity | None = getattr(request, "identity", None)
    if identity is not None:
        return identity.kind, _email(identity) or f"key_{identity.key_public_id}"
    user = request.user
    if not user.is_authenticated:
        return "user", "not signed in"
    behind = request.session.get(IMPERSONATOR)
    return "user", f"{behind} as {user.email}" if behind else user.email


def _email(identity: Identity) -> str | None:
    emails = User.objects.filter(pk=identity.user_id or 0).values_list("email", flat=True)
    return emails.first()
