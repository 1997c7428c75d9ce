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

AS_MEMBER = "as_member"  # the session's key: staff who look at a tenant's pages as a member


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


def person_of(request: HttpRequest) -> User | None:
    """Who looks at a tenant's pages: the one who is signed in, or whom staff look at them as."""
    user = request.user
    if not isinstance(user, User) or not user.is_active:
        return None
    member = request.session.get(AS_MEMBER)
    if member is None or not user.has_perm("accounts.change_user"):
        return user
    return User.objects.filter(pk=member, is_active=True).first()


def _who(request: HttpRequest) -> tuple[str, str]:
    identity: Identity | None = getattr(request, "identity", None)
    if identity is not None:
        return identity.kind, _email(identity) or f"key_{identity.key_public_id}"
    user = request.user
    if not isinstance(user, User):
        return "user", "not signed in"
    match = request.resolver_match
    person = person_of(request) if match and match.app_name == "portal" else user
    if person is None:
        return "user", user.email
    return "user", user.email if person == user else f"{user.email} as {person.email}"


def _email(identity: Identity) -> str | None:
    emails = User.objects.filter(pk=identity.user_id or 0).values_list("email", flat=True)
    return emails.first()
