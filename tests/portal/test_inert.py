"""Whatever text gets into a table or an address, a tenant's pages show it as text."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Invitation, Membership
from portal.urls import urlpatterns
from tenants.models import Tenant
from tests import factories
from tests.api.test_dashboard import called
from tests.hostile import TEXT, made_by_texts, plant
from tests.portal.test_pages import MATRIX, invitation_of
from usage.models import QuotaAlert

pytestmark = [
    pytest.mark.django_db,
    # The test client is synchronous; that it streams is shown in tests/chaos/test_export.py.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
]
KEEP = frozenset(
    {*("public_id", "request_id", "time_zone", "locale", "operation"), "quotas", "rate_limits"}
)
FORMULAS = ("=cmd()", "+1", "-1", "@sum(a1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff20a")


@pytest.fixture
def planted(tenant: Tenant, owner: Client) -> dict[str, str]:
    """Everything that a tenant's pages tell of is hostile; ids of what is there."""
    project = tenant.projects.get()
    key = factories.ApiKeyFactory(project=project, expires_at=timezone.now() + HOUR)
    record = called(tenant, attempts=2, key_id=key.pk, project_id=project.pk)
    attempt = factories.AttemptFactory(request_id=record.request_id)
    member = factories.MembershipFactory(tenant=tenant)
    price = factories.PriceFactory(effective_from=timezone.now() - HOUR)
    QuotaAlert.objects.create(
        counter="a", threshold=99, limit=9, used=9, quota=TEXT, tenant_id=tenant.pk
    )
    ids = {
        "key_id": key.key_id,
        "user_id": member.user.public_id,
        "project_id": project.public_id,
        "invitation_id": invitation_of(tenant),
        "request_id": record.request_id,
    }
    rows = (tenant, tenant.plan, project, key, attempt, member.user, price, price.provider)
    for row in (*rows, *Invitation.objects.all(), *Membership.objects.exclude(pk=member.pk)):
        plant(row, keep=KEEP)
    called(tenant, key_id=key.pk, model=TEXT, provider=TEXT, route=TEXT, code=TEXT, cache=TEXT)
    plant(record, keep=KEEP | {"mode"})
    return ids


HOUR = timedelta(hours=1)


def shown(answer: Any) -> str:
    page: str = answer.content.decode()
    assert not made_by_texts(page)
    return page


@pytest.mark.parametrize("name", MATRIX)
def test_pages_and_what_they_send_back(
    name: str, planted: dict[str, str], tenant: Tenant, owner: Client
) -> None:
    (pattern,) = [pattern for pattern in urlpatterns if pattern.name == name]
    names = [each for each in pattern.pattern.converters if each != "slug"]
    where = reverse(f"portal:{name}", args=[tenant.slug, *(planted[each] for each in names)])
    query = dict.fromkeys(
        ("q", "by", "span", "mode", "key", "operation", "outcome", "format"), TEXT
    )
    if MATRIX[name][0]:
        answer = owner.get(where)
        assert answer.status_code == 200
        page = b"".join(answer) if answer.streaming else shown(answer).encode()  # type: ignore[attr-defined]
        assert b"__xss" in page  # the tenant's name is on every page
        if name != "requests-export":
            shown(owner.get(where, query))
    fields = ("name", "slug", "email", "role", "scopes", "project", "mode", "overlap", "time_zone")
    answer = owner.post(
        where, dict.fromkeys((*fields, "locale", "expires_at", "allowed_ips"), TEXT)
    )
    if not answer.streaming:
        shown(answer)


@pytest.mark.parametrize("by", ["model", "provider", "project", "key", "operation"])
def test_charts_and_tables(by: str, planted: dict[str, str], owner: Client) -> None:
    assert "__xss" in shown(owner.get("/app/acme/usage/", {"by": by}))


def test_pages_before_one_is_anybodys(planted: dict[str, str], tenant: Tenant) -> None:
    person = factories.MembershipFactory(tenant=tenant).user
    factories.MembershipFactory(user=person)
    client = Client()
    shown(client.get("/app/sign-in/", {"next": TEXT}))
    page = shown(client.post("/app/sign-in/", {"username": TEXT, "password": TEXT, "next": TEXT}))
    assert "__xss" in page
    client.force_login(person)
    assert "__xss" in shown(client.get("/app/"))


@pytest.mark.parametrize(
    "wanted", ["javascript:__xss=1", "//__xss", "/\\__xss", " //__xss", "http:__xss"]
)
def test_who_signs_in_stays_here(wanted: str, tenant: Tenant) -> None:
    person = factories.MembershipFactory(tenant=tenant).user
    form = {"username": person.email, "password": factories.PASSWORD, "next": wanted}
    assert Client().post("/app/sign-in/", form)["Location"] == "/app/"


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_file_has_a_formula(formula: str, tenant: Tenant, owner: Client) -> None:
    """Not in a cell of text; an amount below zero is a number."""
    called(tenant, 2, model=formula, provider=formula, route=formula, code=formula)
    files = [
        owner.get("/app/acme/usage/", {"by": by, "format": "csv"}) for by in ("model", "provider")
    ]
    files.append(owner.get("/app/acme/requests/export/"))
    for answer in files:
        text = (b"".join(answer) if answer.streaming else answer.content).decode()  # type: ignore[attr-defined]
        (row,) = csv.DictReader(io.StringIO(text, newline=""))
        cells = [cell for cell in row.values() if cell.lstrip("'") == formula]
        assert cells and set(cells) == {f"'{formula}"}
