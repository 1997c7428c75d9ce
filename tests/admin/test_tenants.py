"""A tenant's page in the admin, looking as a member, and the ledger's stories and files."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from lib.audit import AuditEntry
from tenants.models import Tenant
from tests import factories
from tests.api.test_dashboard import called
from usage import rollups

pytestmark = [
    pytest.mark.django_db,
    # The test client is synchronous; that it streams is shown in tests/chaos/test_export.py.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
]
MOST_QUERIES = 15
FILTERS = (
    "outcome=error",
    "mode=test",
    "streamed__exact=0",
    "estimate__exact=cut",
    "day=2026-01-01",
)


def page(tenant: Tenant) -> str:
    return reverse("admin:tenants_tenant_change", args=[tenant.pk])


def look(member: Any) -> str:
    return reverse("admin:tenants_tenant_look", args=[member.tenant_id, member.pk])


def test_its_page_has_quotas_people_and_keys(browser: Client) -> None:
    key = factories.ApiKeyFactory()
    tenant = key.tenant
    member = factories.MembershipFactory(tenant=tenant, role="owner")
    quota = {"scope": "tenant", "metric": "requests", "window": "day", "limit": 4}
    Tenant.objects.filter(pk=tenant.pk).update(quotas=[quota])
    called(tenant, 0)
    shown = browser.get(page(tenant)).content.decode()
    for told in (member.user.email, key.hint, "1 used of 4", key.project.slug):
        assert told in shown
    assert browser.get(reverse("admin:tenants_tenant_add")).status_code == 200


def test_staff_look_as_a_member_and_everybody_sees_it(browser: Client) -> None:
    tenant = factories.ProjectFactory(slug="default").tenant
    member = factories.MembershipFactory(tenant=tenant, role="owner")
    assert browser.get(look(member)).status_code == 405
    answer = browser.post(look(member))
    assert answer["Location"] == f"/app/{tenant.slug}/"
    shown = browser.get(answer["Location"]).content.decode()
    assert f"as {member.user.email}" in shown
    entry = AuditEntry.objects.get(action="looked as")
    assert (entry.actor, entry.object_name) == ("root@example.test", member.user.email)
    settings = {"name": "Renamed", "time_zone": "UTC", "locale": "en"}
    browser.post(f"/app/{tenant.slug}/settings/", settings)
    assert AuditEntry.objects.about(tenant).first().actor == (
        f"root@example.test as {member.user.email}"
    )
    browser.post(reverse("admin:tenants_tenant_changelist"), {})  # the admin stays theirs
    assert browser.post("/app/sign-out/")["Location"] == "/admin/tenants/tenant/"
    assert browser.get(f"/app/{tenant.slug}/").status_code == 404
    assert browser.get("/admin/").status_code == 200


def test_who_may_not_change_people_may_not_look_as_them() -> None:
    member = factories.MembershipFactory()
    client = Client()
    client.force_login(factories.UserFactory(is_staff=True))
    assert client.post(look(member)).status_code == 403
    client.force_login(factories.UserFactory())
    assert client.post(look(member)).status_code == 302  # to the sign-in page
    assert not AuditEntry.objects.filter(action="looked as").exists()


def test_who_loses_the_power_looks_no_longer(browser: Client, superuser: Any) -> None:
    member = factories.MembershipFactory()
    browser.post(look(member))
    superuser.is_superuser = False
    superuser.save()
    assert browser.get(f"/app/{member.tenant.slug}/").status_code == 404


def test_a_calls_story(browser: Client) -> None:
    record = called(factories.TenantFactory(), 1, attempts=2, latency_ms=100)
    factories.AttemptFactory(request_id=record.request_id, number=1, provider="<b>lab")
    where = reverse("admin:usage_usagerecord_change", args=[record.request_id])
    shown = browser.get(where).content.decode()
    assert "&lt;b&gt;lab" in shown and 'class="share"' in shown
    missing = reverse("admin:usage_usagerecord_change", args=["nothing"])
    assert browser.get(missing).status_code == 302


def test_calls_are_found_by_month_day_and_outcome(browser: Client) -> None:
    tenant = factories.TenantFactory()
    now, old = called(tenant, 0), called(tenant, 24 * 40, code="upstream_timeout")
    where = reverse("admin:usage_usagerecord_changelist")

    def found(**query: str) -> set[str]:
        rows = browser.get(where, query).context["cl"].result_list
        return {row.request_id for row in rows}

    for record in (now, old):
        assert found(month=f"{record.created_at:%Y-%m}") == {record.request_id}
    assert found(day=f"{now.created_at:%Y-%m-%d}") == {now.request_id}
    assert found(outcome="error", month=f"{old.created_at:%Y-%m}") == {old.request_id}
    assert found(outcome="ok") == found(mode="live") == {now.request_id}
    assert found(outcome="error") == set()  # of the last day, as the page says


def test_calls_are_found_by_whose_they_are_and_who_answered(browser: Client) -> None:
    acme, other = factories.TenantFactory(slug="acme"), factories.TenantFactory(slug="lab")
    mine = called(acme, 1, provider="openai", model="gpt-5", code="upstream_timeout")
    theirs = called(other, 1, provider="acme-ai", model="m")
    old = called(acme, 24 * 40, provider="openai")
    where = reverse("admin:usage_usagerecord_changelist")

    def found(**query: str) -> set[str]:
        rows = browser.get(where, query).context["cl"].result_list
        return {row.request_id for row in rows}

    for word in (" acme ", "openai", "gpt-5", mine.request_id):
        assert found(q=word) == {mine.request_id}
    assert found(q="acme", month=f"{old.created_at:%Y-%m}") == {old.request_id}
    assert found(q="acme", outcome="error") == {mine.request_id}
    assert found(q="acme-ai") == found(q="lab") == {theirs.request_id}
    assert found(q="nobody") == found(q="%") == set()
    assert found(q=old.request_id) == {old.request_id}  # an id, whenever it was
    page = browser.get(reverse("admin:tenants_tenant_change", args=[acme.pk])).content.decode()
    assert f"{where}?q=acme&amp;outcome=error" in page


def test_a_tenants_page_leads_to_a_new_key_of_its_first_project(browser: Client) -> None:
    project = factories.ProjectFactory()
    page = reverse("admin:tenants_tenant_change", args=[project.tenant_id])
    lead = f"{reverse('admin:tenants_apikey_add')}?project={project.pk}"
    assert lead in browser.get(page).content.decode()
    assert f'<option value="{project.pk}" selected' in browser.get(lead).content.decode()


def test_an_empty_list_says_what_was_looked_for(browser: Client) -> None:
    where = reverse("admin:usage_usagerecord_changelist")
    assert "There are none yet" in browser.get(where).content.decode()
    sought = browser.get(where, {"q": "<b>none"}).content.decode()
    assert "Nothing was found" in sought and "Add usage record" not in sought
    plans = browser.get(reverse("admin:tenants_plan_changelist")).content.decode()
    assert "Add plan" in plans


def test_a_call_leads_to_its_key_and_project(browser: Client) -> None:
    key = factories.ApiKeyFactory()
    record = called(key.project.tenant, 1, key_id=key.pk, project_id=key.project_id)
    where = reverse("admin:usage_usagerecord_change", args=[record.request_id])
    page = browser.get(where).content.decode()
    assert reverse("admin:tenants_apikey_change", args=[key.pk]) in page
    assert reverse("admin:tenants_project_change", args=[key.project_id]) in page


def test_no_page_of_the_ledger_looks_through_all_of_it(browser: Client) -> None:
    """Which modes there are is known, and what is rare is looked for in one day."""
    called(factories.TenantFactory(), 0)
    for model, queries in (("usagerecord", FILTERS), ("usageday", ("",)), ("attemptday", ("",))):
        where = reverse(f"admin:usage_{model}_changelist")
        for query in queries:
            with CaptureQueriesContext(connection) as captured:
                assert browser.get(f"{where}?{query}").status_code == 200
            told = [each["sql"] for each in captured if f'FROM "usage_{model}"' in each["sql"]]
            assert not any("DISTINCT" in each or "COUNT(" in each for each in told)
            assert not query or all('"request_id" >=' in each for each in told)


def test_the_ledger_as_a_file(browser: Client) -> None:
    tenant, other = factories.TenantFactory(), factories.TenantFactory()
    mine, theirs = called(tenant, 2).request_id, called(other, 2).request_id
    where = reverse("export")
    ledger = browser.get(reverse("admin:usage_usagerecord_changelist")).content.decode()
    assert (button := reverse("admin:usage_usagerecord_export")) in ledger
    assert browser.get(button)["Location"] == where
    assert "<form" in browser.get(where).content.decode()
    told = b"".join(browser.get(where, {"format": "csv"})).decode()
    assert mine in told and theirs in told and "cost_microusd" in told
    query = {"format": "jsonl", "tenant": tenant.slug, "from": ""}
    told = b"".join(browser.get(where, query)).decode()
    assert mine in told and theirs not in told
    for wrong in ({"tenant": "nobody"}, {"from": "soon"}):
        assert browser.get(where, {"format": "csv"} | wrong).status_code == 400
    client = Client()
    client.force_login(factories.UserFactory(is_staff=True))
    assert client.get(where, {"format": "csv"}).status_code == 403


def test_as_many_queries_for_many_rows_as_for_few(browser: Client) -> None:
    tenant = factories.ProjectFactory().tenant

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(page(tenant)).status_code == 200
        return len(captured)

    def more() -> None:
        factories.ApiKeyFactory(project=tenant.projects.first())
        factories.MembershipFactory(tenant=tenant)
        called(tenant)

    more()
    queries()
    few = queries()
    for _ in range(8):
        more()
    rollups.fold()
    assert queries() == few <= MOST_QUERIES
