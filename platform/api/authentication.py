"""DRF's door to accounts.identities: the same checks as on the data path."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.identities import IDENTITIES, identify
from accounts.identity import Identity
from api.addresses import client_address
from lib.models import Revision, Topic

if TYPE_CHECKING:
    from accounts.models import User


class Principal:
    """What `request.user` is: the identity, and the real user only when someone asks."""

    is_authenticated = True
    is_anonymous = False
    is_active = True

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.pk = identity.user_id or 0
        self.is_staff = identity.is_staff

    @cached_property
    def user(self) -> User | None:
        """The person, where the caller is one and not a key."""
        from accounts.models import User

        return User.objects.filter(pk=self.identity.user_id or 0).first()


class PatchbayAuthentication(BaseAuthentication):
    """An API key or access token, in either carrier. `request.auth` is the Identity."""

    def authenticate(self, request: Request) -> tuple[Principal, Identity] | None:
        authorization = request.headers.get("Authorization")
        api_key = request.headers.get("X-API-Key")
        if authorization is None and api_key is None:
            return None
        FRESHNESS.catch_up()
        identity = identify(IDENTITIES, authorization, api_key, client_address(request))
        request._request.identity = identity  # type: ignore[attr-defined]  # for the access log
        return Principal(identity), identity

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class Freshness:
    """Management calls see every change at once: one tiny query tells whether there was one."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._lock = threading.Lock()

    def catch_up(self) -> None:
        topic = Revision.objects.filter(topic=Topic.KEYS)
        number = topic.values_list("number", flat=True).first() or 0
        with self._lock:
            if number != self._seen:
                IDENTITIES.forget()
                self._seen = number


FRESHNESS = Freshness()


class PatchbayScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document shows it."""

    target_class = PatchbayAuthentication
    name = ["bearer", "apiKey"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return self.definitions()

    @staticmethod
    def definitions() -> list[dict[str, str]]:
        return [
            {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key (`pb_live_…`, `pb_test_…`) or an access token.",
            },
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return [{"bearer": []}, {"apiKey": []}]
