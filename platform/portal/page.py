"""The door to every page of a tenant: who is signed in, for which tenant, in which role.

A view gets a `Visit`, which holds the tenant; every queryset starts from it, so that what is
another's is not there. Staff may look at a tenant's pages as one of its members; whatever they
change meanwhile is told as theirs (api/acting.py).
"""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache

from accounts.models import Membership, User
from api.acting import person_of
from api.permissions import BUILDERS, EVERYONE, MANAGERS
from portal.numbers import by_the_customs_of
from tenants.models import Tenant

View = Callable[..., HttpResponseBase]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who belongs to the tenant."""

    request: HttpRequest
    person: User
    tenant: Tenant
    role: str

    @property
    def is_staffs(self) -> bool:
        """Whether it is staff who look at the pages as a member."""
        return self.request.user != self.person

    @property
    def may_build(self) -> bool:
        """Whether the person may make and change keys and projects."""
        return self.may(BUILDERS)

    def may(self, roles: Set[str]) -> bool:
        """Whether the person's role is one of them, and the tenant may change anything."""
        return self.role in roles and self.tenant.status == Tenant.Status.ACTIVE

    def render(
        self, template: str, context: dict[str, Any] | None = None, *, status: int = 200
    ) -> HttpResponse:
        told = {"visit": self, "tenant": self.tenant, "sections": sections(self)}
        return render(self.request, template, told | (context or {}), status=status)

    def url(self, name: str, *args: Any) -> str:
        return reverse(f"portal:{name}", args=[self.tenant.slug, *args])

    def back_to(self, name: str, *args: Any) -> HttpResponse:
        return redirect(self.url(name, *args))


def page(*, read: Set[str] = EVERYONE, write: Set[str] = EVERYONE) -> Callable[[View], View]:
    """A page that these roles may see, and send forms to."""

    def door(view: View) -> View:
        @never_cache
        @functools.wraps(view)
        def opened(request: HttpRequest, slug: str, **kwargs: Any) -> HttpResponseBase:
            person = person_of(request)
            if person is None:
                query = urlencode({"next": request.get_full_path()})
                return redirect(f"{reverse('portal:sign-in')}?{query}")
            visit = _visit(request, person, slug)
            allowed = read if request.method in {"GET", "HEAD"} else write
            if visit.role not in allowed or not (allowed is read or visit.may(write)):
                told = {"takes_forms": allowed is read and not read and visit.may(write)}
                return visit.render("portal/forbidden.html", told, status=403)
            zone = zoneinfo.ZoneInfo(visit.tenant.time_zone)
            with timezone.override(zone), by_the_customs_of(visit.tenant.locale):
                return view(visit, **kwargs)

        opened.read, opened.write = read, write  # type: ignore[attr-defined]  # for the matrix
        return opened

    return door


def _visit(request: HttpRequest, person: User, slug: str) -> Visit:
    rows = Membership.objects.select_related("tenant__plan")
    membership = rows.filter(user=person, tenant__slug=slug).first()
    if membership is None:
        raise Http404
    return Visit(request, person, membership.tenant, membership.role)


# What the bar shows: the page's name, how it is called, and who may see it.
_SECTIONS: list[tuple[str, str, Set[str]]] = [
    ("overview", "Overview", EVERYONE),
    ("start", "Getting started", EVERYONE),
    ("usage", "Usage", EVERYONE),
    ("quotas", "Quotas", EVERYONE),
    ("requests", "Requests", EVERYONE),
    ("playground", "Playground", EVERYONE),
    ("keys", "Keys", EVERYONE),
    ("projects", "Projects", EVERYONE),
    ("members", "Members", EVERYONE),
    ("limits", "Limits and prices", EVERYONE),
    ("status", "Status", EVERYONE),
    ("settings", "Settings", MANAGERS),
]


def sections(visit: Visit) -> list[dict[str, Any]]:
    here = visit.request.path
    return [
        {
            "title": title,
            "url": (url := visit.url(name)),
            "here": here == url or (name != "overview" and here.startswith(url)),
        }
        for name, title, roles in _SECTIONS
        if visit.role in roles
    ]
