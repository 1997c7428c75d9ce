"""Every page of the admin loads, with as many queries for many rows as for few."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from unfold.admin import ModelAdmin

from accounts.services import invite
from lib import audit
from lib.ids import prefixed
from providers.services import override_breaker
from providers.warm_models import WarmRequest
from tenants.models import HousePolicy
from tests import factories
from usage import rollups
from usage.feedback import give
from usage.rollup_models import AttemptDay, UsageDay

pytestmark = pytest.mark.django_db
MAX_QUERIES = 15


def noted(model: Any) -> Callable[[], Any]:
    return lambda: model.objects.create(username="a@example.test", ip_address="192.0.2.1")


def attempt() -> Any:
    return AccessAttempt.objects.create(
        username="a@example.test",
        ip_address=f"192.0.2.{AccessAttempt.objects.count()}",
        failures_since_start=1,
        attempt_time=dt.datetime.now(dt.UTC),
    )


MAKERS: dict[str, Callable[[], Any]] = {
    "lib.auditentry": lambda: audit.event("tried", kind="a thing", after={"n": 1}),
    "tenants.plan": lambda: factories.PlanFactory(slug=prefixed("plan")),
    "tenants.housepolicy": lambda: HousePolicy.objects.get_or_create(pk=HousePolicy.PK)[0],
    "tenants.tenant": factories.TenantFactory,
    "tenants.project": factories.ProjectFactory,
    "tenants.apikey": factories.ApiKeyFactory,
    "accounts.user": factories.UserFactory,
    "accounts.membership": factories.MembershipFactory,
    "accounts.invitation": lambda: invite(
        tenant=factories.TenantFactory(),
        email=f"{prefixed('x')}@example.test",
        role="viewer",
        by=factories.UserFactory(),
    )[0],
    "accounts.refreshfamily": factories.RefreshFamilyFactory,
    "providers.provider": factories.ProviderFactory,
    "providers.credential": factories.CredentialFactory,
    "providers.operation": lambda: factories.OperationFactory(name=prefixed("a")),
    "providers.model": factories.ModelFactory,
    "billing.price": factories.PriceFactory,
    "billing.correction": factories.CorrectionFactory,
    "providers.route": lambda: factories.TargetFactory().route,
    "providers.target": factories.TargetFactory,
    "providers.warmrequest": lambda: WarmRequest.objects.create(
        name=prefixed("w").replace("_", "-"),
        operation="finance.fx_rate",
        params={"base": "EUR", "quote": "SEK"},
    ),
    "providers.breakeroverride": lambda: override_breaker(
        name=factories.ProviderFactory().slug, state="DISABLED", reason="r", by="me"
    ),
    "usage.feedback": lambda: give(record=factories.UsageRecordFactory(), score=0.5)[0],
    "usage.usagerecord": lambda: factories.UsageRecordFactory(
        tenant_id=factories.TenantFactory().pk
    ),
    "usage.attempt": factories.AttemptFactory,
    "usage.opencall": factories.OpenCallFactory,
    "usage.usageday": lambda: rolled_up().get(),
    "usage.attemptday": lambda: AttemptDay.objects.get(provider=rolled_up().get().provider),
    "auth.group": lambda: Group.objects.create(name=f"group {Group.objects.count()}"),
    "axes.accessattempt": attempt,
    "axes.accesslog": noted(AccessLog),
    "axes.accessfailurelog": noted(AccessFailureLog),
}


def rolled_up() -> Any:
    """The day of a call that is its tenant's and its provider's only one."""
    tenant = factories.TenantFactory().pk
    record = factories.UsageRecordFactory(tenant_id=tenant, provider=f"only-{tenant}")
    rollups.add(record.request_id)
    rollups.fold()
    return UsageDay.objects.filter(tenant_id=tenant)


READ_ONLY = {
    "accounts.invitation",
    "lib.auditentry",
    "billing.correction",
    "accounts.refreshfamily",
    "usage.feedback",
    "usage.usagerecord",
    "usage.attempt",
    "usage.opencall",
    "usage.usageday",
    "usage.attemptday",
    "axes.accesslog",
    "axes.accessfailurelog",
}
NO_DELETE = READ_ONLY | {
    "providers.breakeroverride",
    "tenants.tenant",
    "tenants.apikey",
    "providers.operation",
    "billing.price",
    "tenants.housepolicy",
}
NO_ADD = READ_ONLY | {"providers.operation", "axes.accessattempt", "tenants.housepolicy"}


def url(label: str, page: str, *args: Any) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_{page}", args=args)


def ours() -> dict[str, Any]:
    apps = {"lib", "tenants", "accounts", "providers", "usage", "billing", "auth", "axes"}
    return {
        model._meta.label_lower: page
        for model, page in admin.site._registry.items()
        if model._meta.app_label in apps
    }


def test_every_model_has_a_page_in_the_admins_style() -> None:
    assert set(MAKERS) <= ours().keys()
    assert ours().keys() - set(MAKERS) <= {"axes.accessattemptexpiration"}
    assert all(isinstance(page, ModelAdmin) for page in ours().values())


def queries(browser: Client, where: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert browser.get(where).status_code == 200
    return len(captured)


@pytest.mark.parametrize("label", MAKERS)
def test_list_pages(label: str, browser: Client) -> None:
    where = url(label, "changelist")
    MAKERS[label]()
    MAKERS[label]()
    browser.get(where)
    few = queries(browser, where)
    for _ in range(10):
        MAKERS[label]()
    assert queries(browser, where) == few <= MAX_QUERIES
    assert browser.get(where, {"q": "a'\"%_\\x"}).status_code == 200


@pytest.mark.parametrize("label", MAKERS)
def test_row_pages(label: str, browser: Client) -> None:
    row = MAKERS[label]()
    assert browser.get(url(label, "change", row.pk)).status_code == 200
    added = browser.get(url(label, "add")).status_code
    assert added == (403 if label in NO_ADD else 200)
    deleted = browser.get(url(label, "delete", row.pk)).status_code
    assert deleted == (403 if label in NO_DELETE else 200)


def a_provider_with(number: int) -> Any:
    """Credentials, models in as many routes, quotas that nobody counted yet, calls, changes."""
    provider = factories.ProviderFactory(quotas=quotas(number))
    for n in range(number):
        factories.CredentialFactory(provider=provider, name=f"c{n}")
        model = factories.ModelFactory(provider=provider, model_id=f"m{n}")
        factories.TargetFactory(provider=provider, model=model)
        factories.AttemptFactory(provider=provider.slug)
        override_breaker(name=provider.slug, state="DISABLED", reason="r", by="me")
    return provider


def a_route_with(number: int) -> Any:
    route = factories.RouteFactory(operation="chat.completions", alias=prefixed("r"))
    for n in range(number):
        model = factories.ModelFactory(model_id=f"m{n}")
        factories.TargetFactory(route=route, provider=model.provider, model=model)
    return route


def a_tenant_with(number: int) -> Any:
    tenant = factories.TenantFactory(
        quotas=[{**each, "scope": "tenant"} for each in quotas(number)]
    )
    for _ in range(number):
        factories.MembershipFactory(tenant=tenant)
        factories.ApiKeyFactory(project=factories.ProjectFactory(tenant=tenant))
    return tenant


def quotas(number: int) -> list[dict[str, Any]]:
    windows = ("minute", "hour", "day", "month", "lifetime")[:number]
    return [{"metric": "requests", "window": window, "limit": 100} for window in windows]


@pytest.mark.parametrize(
    "label, made",
    [
        ("providers.provider", a_provider_with),
        ("providers.route", a_route_with),
        ("tenants.tenant", a_tenant_with),
    ],
)
def test_a_page_that_tells_more_costs_the_same_for_much(
    label: str, made: Callable[[int], Any], browser: Client
) -> None:
    few, many = (url(label, "change", made(number).pk) for number in (1, 5))
    browser.get(few)
    assert queries(browser, many) == queries(browser, few) <= MAX_QUERIES


@pytest.mark.parametrize("label", sorted(READ_ONLY))
def test_read_only_rows_stay(label: str, browser: Client) -> None:
    row = MAKERS[label]()
    before = type(row).objects.values().get(pk=row.pk)
    assert browser.post(url(label, "change", row.pk), {"status": "1"}).status_code == 403
    assert browser.post(url(label, "delete", row.pk), {"post": "yes"}).status_code == 403
    listing = {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"}
    browser.post(url(label, "changelist"), listing)
    assert type(row).objects.values().get(pk=row.pk) == before


def test_index_and_anonymous(browser: Client) -> None:
    assert browser.get("/admin/").status_code == 200
    assert Client().get("/admin/").status_code == 302


def test_money_is_shown_in_usd(browser: Client) -> None:
    factories.UsageRecordFactory(charge=1_234_567, cost=5)
    page = browser.get(url("usage.usagerecord", "changelist")).content.decode()
    assert "1.234567" in page
    assert "0.000005" in page
    later = timezone.now() + dt.timedelta(days=1)
    price = factories.PriceFactory(input=2_500_000, unit=7_000_000, effective_from=later)
    page = browser.get(url("billing.price", "change", price.pk)).content.decode()
    assert 'value="2.5"' in page
    assert 'value="0.007"' in page
