"""How often one address, or one tenant, may do what is worth trying again and again."""

from __future__ import annotations

import functools
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django_ratelimit.core import get_usage
from rest_framework.request import Request

from lib.problems import RateLimited, Unavailable

SIGN_INS = "10/m"
REFRESHES = "60/m"
NEW_KEYS = "60/m"
PASSWORDS = "20/h"  # tries of one person
INVITATIONS = "100/h"
MAILS = "10/h"
MAILS_TO_ONE = "3/h"
TEST_CALLS = "20/m"
EXPORTS = "30/m"
INVALIDATIONS = "300/m"


def slow_down(request: Request | HttpRequest, *, group: str, rate: str, tenant: str = "") -> None:
    """Count it. Raises RateLimited when the address, or the `tenant`, came too often, and
    Unavailable when the cache that counts does not answer and nobody vouches for the caller."""
    django_request = request._request if isinstance(request, Request) else request
    key = (lambda _group, _request: tenant) if tenant else "ip"
    usage = get_usage(django_request, group=group, key=key, rate=rate, increment=True)
    if not usage or not usage["should_limit"]:
        return
    if usage["time_left"] < 0:  # its cache does not answer
        if tenant:  # has shown a credential: in trouble, keys must still be changed
            return
        raise Unavailable(code="store_unavailable", retry_after=5)
    seconds = max(1, usage["time_left"])
    policy = f"{'tenant' if tenant else 'ip'}-{group}"
    raise RateLimited(retry_after=seconds, policy=policy, reset_seconds=seconds)


def paced_sign_in(
    view: Callable[..., HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """The admin's sign-in page, within the same limit as the API's. It works without the cache
    too, so that the operator can see what is wrong: failures are counted in the database."""

    @functools.wraps(view)
    def sign_in(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if request.method == "POST":
            try:
                slow_down(request, group="login", rate=SIGN_INS)
            except RateLimited as problem:
                page = render(request, "api/locked.html", {"minutes": 1}, status=429)
                for name, value in problem.headers.items():
                    page[name] = value
                return page
            except Unavailable:
                pass
        return view(request, *args, **kwargs)

    return sign_in
