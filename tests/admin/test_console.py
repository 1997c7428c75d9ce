"""Providers in the admin: how they stand, what staff do about it, and who may."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from api import vitals
from api.configuration import staff_roles
from api.console import calls
from api.console.standing import standings
from lib.audit import AuditEntry
from lib.problems import Unavailable
from providers import snapshot
from providers.breaker import State
from providers.models import BreakerOverride, Credential, Provider
from providers.services import override_breaker
from tests import factories
from tests.admin.test_staff_roles import as_role
from tests.api.test_dashboard import called
from usage import rollups
from usage.counters.claims import Used

pytestmark = pytest.mark.django_db
MOST_QUERIES = 15
MOST_ON_A_PAGE = 40
LIST = "/admin/providers/provider/"
HOSTILE = "<script>alert(1)</script>"
WRITERS = {"operator", "admin"}


@pytest.fixture
def roles() -> Iterator[None]:
    staff_roles.bring()
    yield


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the gateway in this process knows."""

    def knows(**told: Any) -> None:
        for name, value in told.items():
            monkeypatch.setattr(vitals.WORKER, name, value)

    return knows


def page_of(provider: Provider, name: str = "change") -> str:
    return reverse(f"admin:providers_provider_{name}", args=[provider.pk])


def slugs(page: Any) -> list[str]:
    return [row.slug for row in page.context["cl"].result_list]


def provider(slug: str, calls: int = 0, **fields: Any) -> Provider:
    made = factories.ProviderFactory(slug=slug, **fields)
    for _ in range(calls):
        called(factories.TenantFactory(), provider=slug)
    return made


def test_the_list_tells_how_each_stands(browser: Client, worker: Any) -> None:
    limits = [{"metric": "requests", "window": "day", "limit": 50}]
    lab = provider("lab", calls=2, quotas=limits)
    other = provider("other")
    rollups.fold()
    worker(
        breakers=lambda: {"lab": State.OPEN, "lab/gpt": State.OPEN, "test:1:other": State.OPEN},
        scores=lambda: {
            "lab/a": {"quality": 0.5, "calls": 3.0},
            "lab/b": {"quality": 0.9, "calls": 1.0},
            "test:1:other": {"quality": 0.1, "calls": 9.0},
        },
        counters=lambda claims: [Used(20, 5) for _ in claims],
    )
    rows = {row.slug: row for row in browser.get(LIST).context["cl"].result_list}
    assert rows["lab"].told == {"failed": "0.0% of 2", "p95": "488 ms", "cost": "$2.00"} | {
        "quality": "0.60"
    }
    assert (rows["lab"].breaker_state, rows["lab"].resting) == (State.OPEN, 1)
    assert rows["lab"].fullest.percent == 50
    assert set(rows[other.slug].told.values()) == {"–"}
    assert (rows["other"].breaker_state, rows["other"].fullest) == (State.CLOSED, None)
    assert standings().keys() == {"lab"} and lab.slug in rows


def test_it_is_sorted_by_figures_and_filtered_by_breaker(browser: Client, worker: Any) -> None:
    for slug, cost in (("a", 5), ("b", 9), ("c", 1)):
        factories.ProviderFactory(slug=slug)
        called(factories.TenantFactory(), provider=slug, cost=cost)
    provider("d")
    worker(breakers=lambda: {"a": State.OPEN, "b": State.HALF_OPEN})
    override_breaker(name="c", state="FORCED_OPEN", reason="r", by="me")
    columns = browser.get(LIST).context["cl"].list_display
    place = columns.index("cost_now")
    assert slugs(browser.get(LIST, {"o": f"-{place}"}))[:3] == ["b", "a", "c"]
    assert slugs(browser.get(LIST, {"o": f"{place}"}))[-3:] == ["c", "a", "b"]
    for state, shown in (("OPEN", {"a"}), ("HALF_OPEN", {"b"}), ("FORCED_OPEN", {"c"})):
        assert set(slugs(browser.get(LIST, {"breaker": state}))) == shown
    assert set(slugs(browser.get(LIST, {"breaker": "CLOSED"}))) == {"d"}
    assert browser.get(LIST, {"breaker": "'\"<b>"}).status_code == 200


def queries(browser: Client, where: str, **query: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert browser.get(where, query).status_code == 200
    return len(captured)


def test_it_costs_the_same_however_many_rows(browser: Client, worker: Any) -> None:
    quotas = [{"metric": "requests", "window": "day", "limit": 50}]

    def more(start: int, number: int) -> None:
        for n in range(start, start + number):
            factories.CredentialFactory(provider=provider(f"p{n}", calls=1, quotas=quotas))
            override_breaker(name=f"p{n}", state="DISABLED", reason="r", by="me")

    more(0, 2)
    browser.get(LIST)
    for query in ({}, {"o": "-5"}, {"breaker": "DISABLED"}):
        few = queries(browser, LIST, **query)
        more(100 * len(query) + 10 * len(str(query)), 4)
        assert queries(browser, LIST, **query) == few <= MOST_QUERIES


def test_the_page_of_one_tells_all_that_is_known(browser: Client, worker: Any) -> None:
    quotas = [{"metric": "requests", "window": "day", "limit": 40}]
    manifest = {
        "limits": [{"metric": "requests", "window": "hour", "limit": 777}],
        "attribution": [{"text": f"By {HOSTILE}", "licence": "CC BY 4.0"}],
    }
    lab = provider("lab", calls=1, quotas=quotas, manifest=manifest)
    model = factories.ModelFactory(provider=lab, model_id="gpt-x")
    factories.PriceFactory(provider=lab, model_id="gpt-x", input=1_230_000)
    route = factories.TargetFactory(provider=lab, model=model).route
    factories.AttemptFactory(provider="lab", model=HOSTILE, verdict="ok", latency_ms=4242)
    factories.AttemptFactory(provider="another", latency_ms=5353)
    override_breaker(name="lab", state="FORCED_OPEN", reason=HOSTILE, by="ann", user=None)
    worker(counters=lambda claims: [Used(20, 10) for _ in claims])
    answer = browser.get(page_of(lab))
    page = answer.content.decode()
    for told in ("FORCED_OPEN", "777 requests", "CC BY 4.0", "1.23", str(route), "4242"):
        assert told in page, told
    assert "width: 50%" in page and "width: 25%" in page
    assert "nobody else serves it" in page and "5353" not in page
    assert any("breakeroverride" in row["what"] for row in answer.context["history"])
    assert HOSTILE not in page and "&lt;script&gt;" in page


def test_its_page_costs_the_same_however_much_there_is(browser: Client) -> None:
    lab = provider("lab")

    def more() -> None:
        model = factories.ModelFactory(provider=lab)
        factories.PriceFactory(provider=lab, model_id=model.model_id)
        factories.TargetFactory(provider=lab, model=model)
        factories.CredentialFactory(provider=lab)
        factories.AttemptFactory(provider="lab")

    more()
    browser.get(page_of(lab))
    few = queries(browser, page_of(lab))
    for _ in range(6):
        more()
    assert queries(browser, page_of(lab)) == few <= MOST_ON_A_PAGE


def force(client: Client, made: Provider, **words: str) -> Any:
    form = {"sure": "1", "state": "FORCED_OPEN", "reason": "down"} | words
    return client.post(page_of(made, "breaker"), form)


def test_a_breaker_is_forced_disabled_and_reset_from_its_row(browser: Client) -> None:
    lab = provider("lab")
    override_breaker(name="lab", state="DISABLED", reason=HOSTILE, by="ann")
    page = browser.get(page_of(lab, "breaker")).content.decode()
    assert 'name="reason"' in page and "DISABLED" in page and HOSTILE not in page
    BreakerOverride.objects.all().delete()
    browser.get(page_of(lab, "breaker"), {"sure": "1", "state": "FORCED_OPEN", "reason": "x"})
    browser.post(page_of(lab, "breaker"), {"state": "FORCED_OPEN", "reason": "x"})
    assert force(browser, lab, reason=" ").status_code == 200
    assert force(browser, lab, minutes="0").status_code == 200
    assert not BreakerOverride.objects.exists()
    for state in ("FORCED_OPEN", "DISABLED", "CLOSED"):
        assert force(browser, lab, state=state, minutes="5").status_code == 302
        assert snapshot.load().breaker_overrides["lab"].state == state
    told = AuditEntry.objects.filter(kind="providers.breakeroverride", actor_kind="user")
    assert [entry.actor for entry in told] == ["root@example.test"] * 3


@pytest.mark.parametrize("role", staff_roles.ROLES)
def test_who_may_do_what(role: str, roles: Any, worker: Any) -> None:
    asked: list[Any] = []
    worker(ask=lambda *call: asked.append(call) or answer())
    client, lab = as_role(role), provider("lab")
    factories.ModelFactory(provider=lab, model_id="gpt-x")
    held = factories.CredentialFactory(provider=lab)
    allowed = role in WRITERS
    refused = 302 if allowed else 403
    assert client.get(page_of(lab)).status_code == 200
    assert client.get(page_of(lab, "breaker")).status_code == (200 if allowed else 403)
    assert force(client, lab).status_code == refused
    assert BreakerOverride.objects.exists() is allowed
    sent = client.post(page_of(lab, "test_call"), {"what": f"{CHAT} gpt-x", "where": "live"})
    assert sent.status_code == (200 if allowed else 403)
    assert bool(asked) is allowed
    drain(client, held, sure="1", reason="leaked")
    act(client, "providers_provider", "disable", lab)
    held.refresh_from_db()
    lab.refresh_from_db()
    assert (held.drained_at is not None) is allowed
    assert lab.enabled is not allowed
    if not allowed:
        secret = {"credentials-0-secret": "sk-forged-0123456789"}
        assert client.post(page_of(lab), inline(lab, held) | secret).status_code == 403
    assert Credential.objects.get().secret() == "upstream-secret-0123456789"


def test_a_forged_list_changes_nothing(browser: Client) -> None:
    lab = provider("lab")
    form = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": str(lab.pk)}
    forged = {"form-0-enabled": "", "form-0-slug": "other", "_save": "Save"}
    browser.post(LIST, form | forged)
    act(browser, "providers_provider", "no_such_action", lab)
    lab.refresh_from_db()
    assert (lab.enabled, lab.slug) == (True, "lab")


def test_nothing_is_done_without_the_page_s_token(superuser: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    lab = provider("lab")
    assert force(client, lab).status_code == 403
    assert client.post(page_of(lab, "test_call"), {}).status_code == 403
    assert not BreakerOverride.objects.exists()


def act(client: Client, page: str, action: str, row: Any, **words: str) -> Any:
    form = {"action": action, "_selected_action": [row.pk], **words}
    return client.post(reverse(f"admin:{page}_changelist"), form)


def drain(client: Client, row: Credential, **words: str) -> Any:
    return act(client, "providers_credential", "drain", row, **words)


def test_a_credential_is_drained_with_a_reason_and_used_again(browser: Client) -> None:
    held = factories.CredentialFactory(provider=provider("lab"))
    assert 'name="reason"' in drain(browser, held).content.decode()
    assert drain(browser, held, sure="1", reason=" ").status_code == 200
    assert not drained("lab")
    assert drain(browser, held, sure="1", reason=HOSTILE).status_code == 302
    assert drained("lab")
    page = browser.get(page_of(held.provider)).content.decode()
    assert "by staff" in page and HOSTILE not in page
    act(browser, "providers_credential", "use_again", held)
    assert not drained("lab")
    assert AuditEntry.objects.about(held).count() == 3


def drained(slug: str) -> bool:
    """As a gateway's next snapshot has it."""
    (held,) = snapshot.load().providers[slug].credentials_of(None)
    return held.drained


UNCHANGED = ("settings", "timeouts", "breaker", "retry", "rate_limits", "quotas")


def inline(made: Provider, *held: Credential) -> dict[str, str]:
    """The provider's form as a browser sends it, with these credentials in it."""
    form = {
        "slug": made.slug,
        "name": made.name,
        "category": made.category,
        "adapter": made.adapter,
        "base_url": made.base_url,
        "enabled": "on",
        "needs_credential": "on",
        "time_zone": "UTC",
        "credentials-TOTAL_FORMS": str(len(held)),
        "credentials-INITIAL_FORMS": str(len(held)),
    }
    for name in ("settings", "timeouts", "breaker", "retry"):
        form[name] = json.dumps(getattr(made, name))
    form |= {"rate_limits": "[]", "quotas": "[]", "manifest": "null"}
    form |= {f"initial-{name}": form[name] for name in UNCHANGED}
    for place, row in enumerate(held):
        own = {"id": row.pk, "provider": made.pk, "name": row.name, "enabled": "on", "secret": ""}
        form |= {f"credentials-{place}-{name}": str(value) for name, value in own.items()}
    return form


def test_a_secret_is_rotated_on_the_providers_page_and_shown_nowhere(browser: Client) -> None:
    lab = provider("lab", source=Provider.Source.BUILTIN)
    held = factories.CredentialFactory(provider=lab)
    assert browser.post(page_of(lab), inline(lab, held)).status_code == 302
    held.refresh_from_db()
    assert held.secret() == "upstream-secret-0123456789"
    Credential.objects.update(drained_at=timezone.now(), drained_reason="401")
    new = {"credentials-0-secret": "sk-rotated-0123456789wxyz"}
    assert browser.post(page_of(lab), inline(lab, held) | new).status_code == 302
    held.refresh_from_db()
    lab.refresh_from_db()
    assert (held.secret(), held.drained_at) == ("sk-rotated-0123456789wxyz", None)
    assert lab.source == Provider.Source.BUILTIN  # a secret is no part of what it is
    page = browser.get(page_of(lab)).content.decode()
    assert "…wxyz" in page and "sk-rotated" not in page and held.sealed not in page
    told = " ".join(f"{e.before}{e.after}" for e in AuditEntry.objects.all())
    assert "sk-rotated" not in told and held.sealed not in told


def test_a_new_one_is_the_houses_and_no_two_have_one_name(browser: Client) -> None:
    lab = provider("lab")
    form = inline(lab) | {"credentials-TOTAL_FORMS": "2"}
    for place in (0, 1):
        form[f"credentials-{place}-name"] = "main"
        form[f"credentials-{place}-secret"] = f"sk-new-012345678{place}"
        form[f"credentials-{place}-enabled"] = "on"
    assert browser.post(page_of(lab), form).status_code == 200
    assert not Credential.objects.exists()
    form["credentials-1-name"] = "spare"
    assert browser.post(page_of(lab), form).status_code == 302
    assert {(c.name, c.tenant, c.secret()) for c in Credential.objects.all()} == {
        ("main", None, "sk-new-0123456780"),
        ("spare", None, "sk-new-0123456781"),
    }
    bare = inline(lab) | {"credentials-TOTAL_FORMS": "1", "credentials-0-name": "third"}
    assert browser.post(page_of(lab), bare).status_code == 200


@pytest.mark.parametrize("whose", ["another provider's", "a tenant's"])
def test_a_forged_row_reaches_no_other_credential(whose: str, browser: Client) -> None:
    lab = provider("lab")
    tenants = {"tenant": factories.TenantFactory()} if whose == "a tenant's" else {}
    of = lab if tenants else provider("other")
    theirs = factories.CredentialFactory(provider=of, **tenants)
    forged = inline(lab, theirs) | {"credentials-0-secret": "sk-forged-0123456789"}
    assert browser.post(page_of(lab), forged).status_code != 500
    theirs.refresh_from_db()
    assert theirs.secret() == "upstream-secret-0123456789"
    assert (theirs.provider, Credential.objects.count()) == (of, 1)


CHAT = "chat.completions"


def answer(status: int = 200, body: str = '{"ok": 1}', **headers: str) -> dict[str, Any]:
    return {"status": status, "body": body, "headers": headers, "milliseconds": 12}


def test_a_test_call_is_small_of_this_provider_alone_and_on_the_record(
    browser: Client, worker: Any
) -> None:
    asked: list[tuple[str, Mapping[str, Any], str]] = []
    worker(ask=lambda *call: asked.append(call) or answer(body=HOSTILE, **{"x-request-id": "r1"}))
    lab = provider("lab")
    factories.ModelFactory(provider=lab, model_id="gpt-x")
    params = {"model": "other/dear", "messages": [], "max_tokens": 99_999, "stream": True, "n": 9}
    form = {"what": f"{CHAT} gpt-x", "where": "live", "params": json.dumps(params)}
    page = browser.post(page_of(lab, "test_call"), form).content.decode()
    assert HOSTILE not in page and "&lt;script&gt;" in page
    ((operation, sent, mode),) = asked
    assert (operation, mode, sent["model"]) == (CHAT, "live", "lab/gpt-x")
    assert (sent["max_tokens"], sent["stream"]) == (calls.MOST_TOKENS_ASKED, False)
    assert "n" not in sent
    entry = AuditEntry.objects.get(action="tried")
    assert json.loads(entry.after)["request_id"] == "r1" and HOSTILE not in entry.after
    assert any("tried" in row["what"] for row in browser.get(page_of(lab)).context["history"])


def test_a_data_provider_is_asked_for_what_its_manifest_serves(
    browser: Client, worker: Any
) -> None:
    asked: list[Any] = []
    worker(ask=lambda *call: asked.append(call) or answer())
    lab = provider("lab", manifest={"operations": {"finance.fx_rate": {}, "no.such": {}}})
    page = browser.get(page_of(lab, "test_call")).content.decode()
    assert "finance.fx_rate" in page and "no.such" not in page
    browser.post(page_of(lab, "test_call"), {"what": "finance.fx_rate", "where": "test"})
    ((_, sent, mode),) = asked
    assert (sent["provider"], sent["fallback"], mode) == ("lab", False, "test")
    texts = (
        "[1]",
        "[" * 5000,
        '{"base": NaN}',
        '{"base": "\\ud800"}',
        '{"base": 1' + "0" * 400 + "}",
    )
    wrongs: list[dict[str, str]] = [{"params": text} for text in texts]
    for wrong in [{"what": "finance.quote"}, {"where": "nowhere"}, *wrongs]:
        form = {"what": "finance.fx_rate", "where": "test"} | wrong
        assert "errorlist" in browser.post(page_of(lab, "test_call"), form).content.decode()
    assert len(asked) == 1


@pytest.mark.parametrize(
    "where",
    ["provider/%s/breaker", "provider/%s/test-call", "route/%s/preview"],
)
def test_what_there_is_not_is_not_found(where: str, browser: Client) -> None:
    for wrong in ("999999", "x", "%C2%B2"):
        assert browser.get(f"/admin/providers/{where % wrong}/").status_code == 404


def test_test_calls_are_few_a_minute(
    browser: Client, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "TEST_CALLS", "2/m")
    asked: list[Any] = []
    worker(ask=lambda *call: asked.append(call) or answer())
    lab = provider("lab")
    factories.ModelFactory(provider=lab, model_id="gpt-x")
    for _ in range(4):
        browser.post(page_of(lab, "test_call"), {"what": f"{CHAT} gpt-x", "where": "test"})
    assert len(asked) == 2


def test_what_goes_wrong_with_one_is_said(browser: Client, worker: Any) -> None:
    lab = provider("lab")
    page = browser.get(page_of(lab, "test_call")).content.decode()
    assert "no model yet" in page and "switched off" not in page
    off = provider("off", enabled=False)
    assert "switched off" in browser.get(page_of(off, "test_call")).content.decode()
    factories.ModelFactory(provider=lab, model_id="gpt-x")
    form = {"what": f"{CHAT} gpt-x", "where": "test"}

    def fails(fault: Exception) -> Callable[..., Any]:
        def ask(*_: Any) -> Any:
            raise fault

        return ask

    worker(ask=vitals.Worker().ask)
    page = browser.post(page_of(lab, "test_call"), form).content.decode()
    assert "No gateway runs in this process" in page
    for fault, said in ((TimeoutError(), "hung up"), (Unavailable("Not now."), "Not now.")):
        worker(ask=fails(fault))
        assert said in browser.post(page_of(lab, "test_call"), form).content.decode()
    assert not AuditEntry.objects.filter(action="tried").exists()


def test_a_resting_models_breaker_leads_to_staffs_word_on_it(
    browser: Client, worker: Any, roles: Any
) -> None:
    lab = provider("lab")
    name = f"lab/org/{HOSTILE}&x=1"
    worker(breakers=lambda: {name: State.OPEN, "labs/other": State.OPEN})
    page = browser.get(page_of(lab)).content.decode()
    assert "Say otherwise" in page and HOSTILE not in page and "labs/other" not in page
    where = page.partition(reverse("admin:providers_breakeroverride_add"))[2].partition('"')[0]
    form = browser.get(reverse("admin:providers_breakeroverride_add") + where)
    assert form.context["adminform"].form["name"].value() == name
    assert "Say otherwise" not in as_role("viewer").get(page_of(lab)).content.decode()
