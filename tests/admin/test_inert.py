"""Whatever text gets into a table, the admin's pages show it as text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.forms import ModelChoiceField
from django.template import Context, Template
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from api import vitals
from lib import audit
from providers.breaker import State
from providers.definition_models import Check, Definition, Drift
from providers.models import Credential
from tenants.models import Tenant
from tests import factories
from tests.admin.test_definitions import made
from tests.admin.test_pages import MAKERS, NO_ADD, url
from tests.api.test_dashboard import called
from tests.hostile import CORPUS, TEXT, made_by_texts, plant
from usage.models import QuotaAlert

pytestmark = pytest.mark.django_db
# They lead to other rows, or to code: with others there is no page.
KEEP = frozenset(
    {*("public_id", "request_id", "time_zone", "locale", "adapter"), "quotas", "rate_limits"}
)
SHOW_NONE = {"usage.opencall", "accounts.refreshfamily"}
PLACES = (
    "<p>{}</p>",
    '<p title="{}"></p>',
    "<p title='{}'></p>",
    "<p title={}></p>",
    '<a href="{}">x</a>',
    "<script>let x = '{}';</script>",
)


@pytest.mark.parametrize("text", CORPUS)
def test_the_reader_sees_what_a_careless_page_lets_through(text: str) -> None:
    assert any(made_by_texts(place.format(text)) for place in PLACES)
    careful = [place.format(escape(text)) for place in PLACES[:2]]
    assert not any(map(made_by_texts, careful))


def test_the_reader_sees_a_template_that_ran() -> None:
    (text,) = [text for text in CORPUS if "{{ 7" in text]
    assert made_by_texts(Template(text).render(Context()))


def shown(browser: Client, where: str, **form: Any) -> str:
    answer = browser.post(where, form, follow=True) if form else browser.get(where)
    assert answer.status_code == 200, (where, answer.status_code)
    page = answer.content.decode()
    assert not made_by_texts(page), where
    return page


@pytest.mark.parametrize("label", MAKERS)
def test_rows(label: str, browser: Client) -> None:
    row = MAKERS[label]()
    planted = plant(row, keep=KEEP)
    shown(browser, url(label, "changelist"))
    page = shown(browser, url(label, "change", row.pk))
    assert not planted or "__xss" in page or label in SHOW_NONE


@pytest.mark.parametrize("label", [label for label in MAKERS if label not in NO_ADD])
def test_forms_that_are_sent_back(label: str, browser: Client) -> None:
    fields = browser.get(url(label, "add")).context["adminform"].form.fields
    form = {
        name: "0" if isinstance(field, ModelChoiceField) else TEXT for name, field in fields.items()
    }
    inlines = {"targets-TOTAL_FORMS": TEXT, "targets-INITIAL_FORMS": "0"}
    page = shown(browser, url(label, "add"), **form, **inlines)
    assert "__xss" in page


def test_what_is_wrong_and_who_called(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = factories.TenantFactory()
    Tenant.objects.filter(pk=tenant.pk).update(slug=TEXT, name=TEXT)
    called(tenant, provider=TEXT, model=TEXT, operation=TEXT, route=TEXT)
    credential = factories.CredentialFactory(name=TEXT)
    reason = {"drained_at": timezone.now(), "drained_reason": TEXT}
    Credential.objects.filter(pk=credential.pk).update(**reason)
    Drift.objects.create(slug="lab", operation=TEXT, message=TEXT)
    QuotaAlert.objects.create(counter="a", threshold=99, limit=9, used=9, quota=TEXT)
    scored = {f"lab/{TEXT}": {"calls": 1.0}}
    monkeypatch.setattr(vitals.WORKER, "breakers", lambda: {TEXT: State.OPEN})
    monkeypatch.setattr(vitals.WORKER, "scores", lambda: scored)
    for where in ("", "figures/", "alerts/", "cache/", "scores/", f"?mode={quote(TEXT)}"):
        assert "__xss" in shown(browser, f"/admin/{where}"), where


def test_the_cache_says_what_it_does_not_know(browser: Client) -> None:
    for form in ({"what": "route", "which": TEXT, "reason": TEXT}, {"what": TEXT, "which": TEXT}):
        assert "__xss" in shown(browser, "/admin/cache/", **form)
    shown(browser, "/admin/cache/", warm=TEXT)


def test_a_calls_story_and_a_tenants_page(browser: Client) -> None:
    key = factories.ApiKeyFactory()
    record = called(key.tenant, attempts=2)
    member = factories.MembershipFactory(tenant=key.tenant)
    attempt = factories.AttemptFactory(request_id=record.request_id)
    for row in (key, key.project, member.user, record, attempt):
        plant(row, keep=KEEP)
    story = shown(browser, url("usage.usagerecord", "change", record.pk))
    assert story.count("__xss") > 4 * len(CORPUS)
    page = shown(browser, url("tenants.tenant", "change", key.tenant.pk))
    assert page.count("__xss") > 3 * len(CORPUS)


def test_changes_told_undone_and_turned(browser: Client) -> None:
    plan = factories.PlanFactory(slug="gold")
    plan.name = TEXT
    plan.save()
    entry = audit.AuditEntry.objects.about(plan).first()
    shown(browser, url("lib.auditentry", "change", entry.pk))
    assert "__xss" in shown(browser, reverse("admin:lib_auditentry_undo", args=[entry.pk]))
    provider = factories.ProviderFactory()
    plant(provider, keep=KEEP)
    choice = {"action": "override_breaker", "_selected_action": [provider.pk]}
    page = shown(browser, url("providers.provider", "changelist"), **choice)
    assert "__xss" in page
    page = shown(browser, url("providers.provider", "changelist"), **choice, reason=TEXT, state="x")


def test_definitions(browser: Client) -> None:
    row = made(browser)
    wheres = [f"/admin/definitions/{where}" for where in ("", "my-rates/", "my-rates/1/")]
    Definition.objects.filter(pk=row.pk).update(note=TEXT, by=TEXT, state="active")
    Drift.objects.create(slug="my-rates", operation=TEXT, message=TEXT)
    check = Check.objects.create(slug="my-rates", kind="live", latency_ms=1)
    plant(check)
    hostile = made(browser, name=json.dumps(TEXT))
    for where in (*wheres, "/admin/definitions/my-rates/2/"):
        assert "__xss" in shown(browser, where) or where == wheres[0]
    Definition.objects.filter(pk=hostile.pk).update(document=TEXT, examples=json.dumps([TEXT]))
    assert "__xss" in shown(browser, "/admin/definitions/my-rates/2/")
    form = {"document": TEXT, "examples": TEXT, "note": TEXT, "check": "1"}
    assert "__xss" in shown(browser, "/admin/definitions/my-rates/new/", **form)
    trial = {"try": "1", "operation": TEXT, "against": TEXT, "example": TEXT, "params": TEXT}
    assert "__xss" in shown(browser, "/admin/definitions/my-rates/1/", **trial)


def test_an_address_that_leads_nowhere(browser: Client) -> None:
    answer = browser.get(f"/admin/{quote(TEXT)}/")
    assert answer.status_code == 404 and not made_by_texts(answer.content.decode())
    for where in ("/admin/search/", url("tenants.plan", "changelist"), reverse("export")):
        page = browser.get(where, dict.fromkeys(("q", "s", "tenant", "from", "o"), TEXT))
        assert not made_by_texts(page.content.decode())


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_no_file_of_the_ledger_has_a_formula(browser: Client, tmp_path: Path) -> None:
    """The admin's, those of both APIs, and the command's."""
    key = factories.ApiKeyFactory()
    staff = factories.ApiKeyFactory(scopes=["internal:read"])
    texts = ("=1", "+1", "-1", "@a", "\t=1", "\r=1", "\uff1d1")
    for text in texts:
        called(key.tenant, 2, model=text, provider=text, route=text, code=text)
    files = [b"".join(browser.get(reverse("export"), {"format": "csv"}))]
    for path, asks in (("/api/v1/usage/export", key), ("/internal/v1/usage/export", staff)):
        answer = Client().get(path, HTTP_AUTHORIZATION=f"Bearer {asks.text}")
        assert answer.status_code == 200, path
        files.append(b"".join(answer))
    call_command("export_usage", out=tmp_path / "file.csv")
    files.append((tmp_path / "file.csv").read_bytes())
    for file in files:
        rows = list(csv.DictReader(io.StringIO(file.decode(), newline="")))
        for column in ("model", "provider", "route", "code"):
            assert {row[column] for row in rows} == {f"'{text}" for text in texts}
