"""Routes in the admin: the order of their targets, and who would serve a call now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.identity import HOUSE, Identity
from api import vitals
from api.configuration import staff_roles
from lib.models import Revision, Topic
from lib.problems import NotFound, Unavailable
from providers import snapshot
from providers.models import Target
from tenants.keys import Mode
from tests.admin.test_staff_roles import as_role
from tests.admin.test_takeover import send
from tests.factories import RouteFactory, TargetFactory, TenantFactory

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"
CHAT = "chat.completions"


class Gateway:
    """The one in this process, as it was asked; it answers with `targets`, or raises `fault`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Identity, str, dict[str, Any]]] = []
        self.targets: list[dict[str, Any]] = []
        self.strategy = "priority"
        self.fault: Exception | None = None
        self.refusal = ""

    def explain(self, *asked: Any) -> dict[str, Any]:
        self.asked.append(asked)  # type: ignore[arg-type]
        if self.fault is not None:
            raise self.fault
        targets = [dict(each) for each in self.targets]
        return {"strategy": self.strategy, "targets": targets, "refusal": self.refusal}

    def says(self, provider: str, reason: str, **more: Any) -> None:
        told = {"provider": provider, "place": len(self.targets) + 1, "score": None}
        self.targets.append({**told, "reason": reason, **more})


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    made = Gateway()
    monkeypatch.setattr(vitals.WORKER, "explain", made.explain)
    yield made


def preview(client: Client, route: Any, **query: str) -> Any:
    return client.get(reverse("admin:providers_route_preview", args=[route.pk]), query)


def test_it_says_who_would_serve_and_why_the_others_not(browser: Client, gateway: Gateway) -> None:
    gateway.strategy = "cost"
    gateway.says("lab", "circuit_open", model=HOSTILE, detail="the breaker of lab")
    gateway.says("other", "quota", detail="a-day: 5 of 5")
    gateway.says("third", "would_serve", score=12.5, detail="")
    gateway.says("fourth", "not_needed", detail="")
    gateway.says("fifth", "some_new_word", place=None)
    page = preview(browser, RouteFactory()).content.decode()
    for told in ("its breaker is open", "a-day: 5 of 5", "would serve it", "12.5", "µUSD"):
        assert told in page, told
    assert "some new word" in page and "Nobody would serve" not in page
    assert HOSTILE not in page and "&lt;script&gt;" in page


def test_nobody_is_said_so(browser: Client, gateway: Gateway) -> None:
    gateway.says("lab", "no_credential", detail="")
    assert "Nobody would serve it now" in preview(browser, RouteFactory()).content.decode()


def test_what_the_caller_itself_may_not_is_told_first(browser: Client, gateway: Gateway) -> None:
    gateway.says("lab", "rate_limit", detail="provider-minute: 5 of 5, for 12 s more")
    gateway.says("other", "bulkhead", detail="provider-concurrency: 9 calls")
    gateway.refusal = f"The quota {HOSTILE} allows 5."
    page = preview(browser, RouteFactory()).content.decode()
    for told in ("a rate limit is reached", "for 12 s more", "own limits would refuse it first"):
        assert told in page, told
    assert HOSTILE not in page


def test_of_a_route_without_anybody_each_target_says_why(browser: Client, gateway: Gateway) -> None:
    bare = {"provider": "lab", "outcome": "skipped_no_credential", "status": 0, "latency_ms": 0}
    gateway.fault = Unavailable("No provider has a credential yet.", attempts=[bare])
    page = preview(browser, RouteFactory()).content.decode()
    assert "No provider has a credential yet." in page
    assert "lab" in page and "no credential" in page


def test_it_is_asked_as_whom_staff_name(browser: Client, gateway: Gateway) -> None:
    route, tenant = RouteFactory(operation=CHAT, alias="quick"), TenantFactory(slug="acme")
    preview(browser, route)
    preview(browser, route, tenant="acme", mode="test", params='{"messages": [], "model": "x"}')
    (first, operation, params), (second, _, said) = gateway.asked
    assert (first.tenant_id, first.mode, operation) == (HOUSE, Mode.LIVE, CHAT)
    assert params["model"] == "quick" and params["messages"]
    assert (second.tenant_id, second.mode) == (tenant.pk, Mode.TEST)
    assert said == {"messages": [], "model": "quick"}
    assert second.may(CHAT)
    for wrong in ({"tenant": "nobody"}, {"tenant": HOSTILE}, {"mode": "x"}, {"params": "[1"}):
        page = preview(browser, route, **wrong).content.decode()
        assert "errorlist" in page and HOSTILE not in page
    assert len(gateway.asked) == 2


def test_what_goes_wrong_is_said(browser: Client, gateway: Gateway) -> None:
    for fault, said in ((NotFound("No such model."), "No such model."), (TimeoutError(), "busy")):
        gateway.fault = fault
        assert said in preview(browser, RouteFactory()).content.decode()


def test_without_a_gateway_it_says_where_to_ask(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals.WORKER, "explain", vitals.Worker().explain)
    assert "No gateway runs" in preview(browser, RouteFactory()).content.decode()


def test_a_route_of_an_operation_that_is_gone_has_a_page(browser: Client, gateway: Gateway) -> None:
    gateway.fault = NotFound("There is no operation 'gone.by'.")
    assert preview(browser, RouteFactory(operation="gone.by", alias="")).status_code == 200


def test_it_is_for_whoever_may_see_routes_and_changes_nothing(gateway: Gateway) -> None:
    staff_roles.bring()
    route, before = TargetFactory().route, Revision.numbers()[Topic.ROUTING]
    for role in staff_roles.ROLES:
        assert preview(as_role(role), route).status_code == 200
    assert preview(Client(), route).status_code == 302
    assert Revision.numbers()[Topic.ROUTING] == before


def test_it_costs_the_same_however_many_targets(browser: Client, gateway: Gateway) -> None:
    def queries(route: Any) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert preview(browser, route).status_code == 200
        return len(captured)

    route = TargetFactory().route
    queries(route)
    few = queries(route)
    for _ in range(9):
        TargetFactory(route=route)
    assert queries(route) == few <= 15


def test_targets_are_put_in_order_by_their_numbers(browser: Client) -> None:
    route = RouteFactory(operation=CHAT, alias="quick")
    first, second = (TargetFactory(route=route, position=n) for n in (0, 1))
    send(browser, route, **{"targets-0-position": "5", "targets-1-position": "2"})
    served = snapshot.load().routes[CHAT, "quick"].targets
    assert [each.provider.slug for each in served] == [second.provider.slug, first.provider.slug]


def test_a_forged_row_moves_no_other_routes_target(browser: Client) -> None:
    mine, theirs = TargetFactory(), TargetFactory(position=3)
    where = reverse("admin:providers_route_change", args=[mine.route.pk])
    form = {
        "operation": mine.route.operation,
        "alias": mine.route.alias,
        "strategy": "priority",
        "rescue": "none",
        "enabled": "on",
        **dict.fromkeys(("checks", "cache", "timeouts"), "{}"),
        "targets-TOTAL_FORMS": "1",
        "targets-INITIAL_FORMS": "1",
        "targets-0-id": str(theirs.pk),
        "targets-0-route": str(mine.route.pk),
        "targets-0-position": "9",
        "targets-0-provider": str(mine.provider.pk),
        "targets-0-weight": "1",
    }
    before = list(Target.objects.order_by("pk").values())
    assert browser.post(where, form).status_code != 500
    assert list(Target.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("role", ["viewer", "billing"])
def test_who_may_only_look_puts_nothing_in_order(role: str) -> None:
    staff_roles.bring()
    target = TargetFactory(position=3)
    where = reverse("admin:providers_route_change", args=[target.route.pk])
    form = {"targets-TOTAL_FORMS": "1", "targets-INITIAL_FORMS": "1", "targets-0-position": "9"}
    assert as_role(role).post(where, form | {"targets-0-id": target.pk}).status_code == 403
    target.refresh_from_db()
    assert target.position == 3
