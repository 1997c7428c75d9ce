"""The cache over HTTP: what staff see of it, what is forgotten on whose word, and what is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from api import vitals
from api.internal.cache import FiguresShown
from cache.figures import Figures
from cache.semantic import Scores
from lib.models import Revision, Topic
from providers.services import note_warmed
from providers.warm_models import WarmRequest
from tenants.models import Tenant
from tests.api.caching import Beside, beside
from tests.factories import (
    ApiKeyFactory,
    ModelFactory,
    TenantFactory,
    UsageRecordFactory,
    UserFactory,
)
from tests.patience import eventually
from tests.services.valkey import Valkey
from usage import rollups

pytestmark = pytest.mark.django_db
WHERE = "/internal/v1/cache"
OWN = "/api/v1/cache/invalidate"
NOBODY = "0" * 32


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    with beside(monkeypatch) as made:
        yield made


@pytest.fixture
def staff(as_user: Any) -> APIClient:
    client: APIClient = as_user(UserFactory(is_staff=True, email="staff@example.test"))
    return client


@pytest.fixture
def acme() -> Tenant:
    tenant: Tenant = TenantFactory(slug="acme")
    return tenant


def forget(client: APIClient, where: str = f"{WHERE}/invalidate", **body: Any) -> Any:
    return client.post(where, body, format="json")


@pytest.mark.parametrize(
    ("what", "which"),
    [
        ("tag", "symbol:AAPL"),
        ("tag", "client:acme:nightly"),
        ("tag", "tenant:acme"),
        ("operation", "finance.quote"),
        ("tenant", "acme"),
        ("provider", "lab"),
        ("model", "lab/gpt-x"),
        ("route", "finance.quote"),
        ("all", True),
    ],
)
def test_what_is_named_is_forgotten(
    gateway: Beside, staff: APIClient, acme: Tenant, what: str, which: Any
) -> None:
    ModelFactory(provider__slug="lab", model_id="gpt-x")
    gateway.keep(acme.pk, names=["nightly"])
    assert gateway.has(acme.pk)
    answer = forget(staff, **{what: which})
    assert answer.status_code == 200, answer.content
    told = {"what": what, "which": "" if which is True else which, "everywhere": True}
    assert answer.json() == told
    assert not gateway.has(acme.pk)


def test_nothing_else_is(gateway: Beside, staff: APIClient, acme: Tenant) -> None:
    other = TenantFactory(slug="other")
    key = gateway.keep(acme.pk, names=["nightly"])
    gateway.keep(acme.pk, "MSFT", names=["weekly"])
    gateway.keep(other.pk, names=["nightly"])
    assert forget(staff, tag=f"client:{acme.public_id}:nightly").json()["everywhere"]
    assert not gateway.has(acme.pk)
    assert gateway.has(acme.pk, "MSFT") and gateway.has(other.pk)
    gateway.keep(acme.pk)
    assert forget(staff, key=key.hex()).status_code == 200
    assert not gateway.has(acme.pk) and gateway.has(acme.pk, "MSFT")
    assert forget(staff, tenant=acme.public_id).status_code == 200
    assert not gateway.has(acme.pk, "MSFT") and gateway.has(other.pk)


WRONG: list[dict[str, Any]] = [
    {},
    {"reason": "because"},
    {"tag": "symbol:A", "operation": "finance.quote"},
    {"all": False},
    {"all": "perhaps"},
    {"all": True, "tag": "symbol:A"},
    {"tag": ""},
    {"tag": "symbol"},
    {"tag": "symbol:"},
    {"tag": ":A"},
    {"tag": "symbol:\x00"},
    {"tag": "symbol:a\nb"},
    {"tag": "s:" + "x" * 300},
    {"tag": ["symbol:A"]},
    {"tag": {"symbol": "A"}},
    {"tag": None},
    {"tag": "client:nobody:x"},
    {"tag": "client:1:x"},
    {"tag": "client:acme"},
    {"tag": "client:acme:no name"},
    {"tag": "tenant:nobody"},
    {"tag": "operation:finance.quotes"},
    {"tag": "provider:nobody"},
    {"tag": "model:nobody/x"},
    {"operation": "finance.nothing"},
    {"operation": "../finance.quote"},
    {"tenant": "nobody"},
    {"tenant": "' OR 1=1 --"},
    {"provider": "nobody"},
    {"model": "nobody/x"},
    {"model": "lab"},
    {"key": "00"},
    {"key": "zz" * 16},
    {"key": "AB" * 16},
    {"key": " " + "0" * 31},
    {"key": NOBODY, "everything": True},
    {"key": NOBODY, "reason": "x" * 501},
    {"tags": ["symbol:A"]},
]


def test_what_is_no_answer_to_what_is_refused(gateway: Beside, staff: APIClient) -> None:
    gateway.keep()
    for body in WRONG:
        answer = forget(staff, **body)
        assert answer.status_code == 422, (body, answer.content)
        assert answer.json()["errors"], body
    assert gateway.has()
    assert not LogEntry.objects.exists()


def test_who_said_so_is_on_the_record(gateway: Beside, staff: APIClient, with_key: Any) -> None:
    assert forget(staff, tag="symbol:AAPL", reason="a split").status_code == 200
    (entry,) = LogEntry.objects.all()
    assert entry.user.email == "staff@example.test"
    assert entry.change_message == "Invalidated tag symbol:AAPL: a split"
    writer = with_key(ApiKeyFactory(scopes=["internal:write"]))
    assert forget(writer, all=True).status_code == 200
    assert LogEntry.objects.count() == 1  # of keys the log tells


EURO = {"operation": "finance.fx_rate", "params": {"base": "EUR", "quote": "SEK"}}


def test_what_is_kept_warm_is_told_and_asked_at_once(staff: APIClient, acme: Tenant) -> None:
    row = WarmRequest.objects.create(name="euro", **EURO)
    WarmRequest.objects.create(name="oslo", tenant=acme, operation="geo.geocode", params={"q": "O"})
    note_warmed(row.pk, "ok")
    told = staff.get(f"{WHERE}/warm").json()
    assert (told["calls_per_minute"], told["percent_of_limits"]) == (60, 10)
    euro, oslo = told["requests"]
    assert euro.items() >= {**EURO, "name": "euro", "tenant": None, "outcome": "ok"}.items()
    assert (oslo["tenant"], oslo["ran_at"], oslo["outcome"]) == ("acme", None, None)
    before = Revision.numbers()[Topic.ROUTING]
    answer = forget(staff, f"{WHERE}/warm", name="oslo")
    assert answer.status_code == 202 and answer.json()["asked_at"]
    assert Revision.numbers()[Topic.ROUTING] > before  # gateways hear of it
    (entry,) = LogEntry.objects.all()
    assert entry.object_repr == "oslo"


def test_what_cannot_be_asked_at_once_is_refused(staff: APIClient, settings: Any) -> None:
    WarmRequest.objects.create(name="euro", enabled=False, **EURO)
    for body in ({}, {"name": ""}, {"name": "nobody"}, {"name": "euro"}, {"names": ["euro"]}):
        answer = forget(staff, f"{WHERE}/warm", **body)
        assert answer.status_code == 422 and answer.json()["errors"], body
    WarmRequest.objects.update(enabled=True)
    settings.ENV = settings.ENV.model_copy(update={"CACHE_WARM_PER_MINUTE": 0})
    assert "CACHE_WARM_PER_MINUTE" in forget(staff, f"{WHERE}/warm", name="euro").content.decode()
    assert WarmRequest.objects.get().asked_at is None


@pytest.mark.parametrize(
    ("who", "reads", "writes"),
    [
        ("staff", 200, 200),
        ("internal:read", 200, 403),
        ("internal:write", 403, 200),
        ("manage:cache", 403, 403),
        ("*", 403, 403),
        ("owner", 403, 403),
        ("anonymous", 401, 401),
    ],
)
def test_only_operators(gateway: Beside, clients: Any, who: str, reads: int, writes: int) -> None:
    client = clients(who)
    assert client.get(f"{WHERE}/status").status_code == reads
    assert client.get(f"{WHERE}/analytics").status_code == reads
    assert client.get(f"{WHERE}/warm").status_code == reads
    told = forget(client, f"{WHERE}/warm", name="nobody")
    assert told.status_code == (422 if writes == 200 else writes)
    assert forget(client, key=NOBODY).status_code == writes


def test_how_full_it_is(gateway: Beside, staff: APIClient) -> None:
    gateway.keep()
    gateway.has()
    told = staff.get(f"{WHERE}/status").json()
    memory = gateway.caches[0].memory
    assert told["memory"] == {
        "bytes": memory.size,
        "limit_bytes": 64 << 20,
        "entries": 1,
        "evictions": 0,
    }
    assert told["shared"] == {
        "configured": False,
        "usable": False,
        "bytes": None,
        "entries": None,
        "limit_bytes": None,
    }
    figures = told["figures"]
    assert (figures["hits"], figures["misses"], figures["hit_ratio"]) == (1, 1, 0.5)
    assert figures["stored"] == 1 and told["since"].endswith("Z")


def test_every_figure_is_told() -> None:
    assert set(FiguresShown().fields) == {*Figures.__slots__, "hit_ratio"}


def test_hits_are_the_ledgers_and_what_they_saved_is_this_gateways(
    gateway: Beside, staff: APIClient, acme: Tenant
) -> None:
    other = TenantFactory(slug="other")
    for tenant, cache in ((acme, ""), (acme, "hit"), (acme, "stale"), (other, "")):
        UsageRecordFactory(tenant_id=tenant.pk, operation="finance.quote", cache=cache, mode="live")
    UsageRecordFactory(tenant_id=acme.pk, operation="chat.completions", mode="live")
    rollups.rebuild()
    cache = gateway.caches[0]
    key = gateway.keep(acme.pk, "SECRET-SYMBOL")
    (full,) = cache.memory._entries
    entry = cache.memory.peek(full)
    assert entry is not None
    record = UsageRecordFactory.build(
        tenant_id=acme.pk, operation="finance.quote", route="finance.quote"
    )
    for _ in range(3):
        cache.savings.add(full, record, 1, entry)
    answer = staff.get(f"{WHERE}/analytics")
    told = answer.json()
    chat, quote = told["operations"]
    assert (chat["operation"], chat["calls"], chat["hit_ratio"]) == ("chat.completions", 1, 0.0)
    assert (quote["calls"], quote["hits"], quote["hit_ratio"]) == (4, 2, 0.5)
    assert quote["saved_here"] == {"hits": 3, "cost_microusd": 0, "ms": 0, "bytes": 6}
    tenants = {row["tenant"]: (row["calls"], row["hits"]) for row in told["tenants"]}
    assert tenants == {"acme": (4, 2), "other": (1, 0)}
    assert (told["totals"]["calls"], told["totals"]["saved_here"]["hits"]) == (5, 3)
    (asked,) = told["most_asked"]
    assert (asked["key"], asked["hits"], asked["fields_asked"]) == (key.hex(), 3, 1)
    assert asked["size_bytes"] == entry.size and asked["age_seconds"] == 0
    assert "SECRET-SYMBOL" not in answer.content.decode()
    assert told["semantic"] == []
    only = staff.get(f"{WHERE}/analytics?tenant=other").json()
    assert only["totals"]["calls"] == 1 and only["totals"]["saved_here"]["hits"] == 0
    assert staff.get(f"{WHERE}/analytics?to=2020-01-02").json()["totals"]["calls"] == 0


def test_answers_to_questions_in_other_words_are_told_by_route(
    gateway: Beside, staff: APIClient
) -> None:
    gateway.caches[0].questions.scores["chat"] = Scores(
        hits=4, misses=2, failed=1, agreed=2, differed=1, similarity=3.88
    )
    assert staff.get(f"{WHERE}/analytics").json()["semantic"] == [
        {
            "route": "chat",
            "hits": 4,
            "misses": 2,
            "failed": 1,
            "mean_similarity": 0.97,
            "checked": 3,
            "agreed": 2,
            "agreed_ratio": 0.6667,
        }
    ]


def test_many_tenants_take_as_many_queries_as_few(gateway: Beside, staff: APIClient) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert staff.get(f"{WHERE}/analytics").status_code == 200
        return len(seen)

    queries()
    UsageRecordFactory(tenant_id=TenantFactory().pk, mode="live")
    rollups.rebuild()
    few = queries()
    for _ in range(20):
        UsageRecordFactory(tenant_id=TenantFactory().pk, mode="live")
    rollups.rebuild()
    assert queries() == few


@pytest.mark.parametrize(
    "query",
    ["from=soon", "mode=both", "tenant=nobody", "group_by=key", "from=2026-01-02&to=2026-01-01"],
)
def test_questions_that_make_no_sense(gateway: Beside, staff: APIClient, query: str) -> None:
    assert staff.get(f"{WHERE}/analytics?{query}").status_code == 400


def test_a_process_without_a_gateway_says_so(staff: APIClient) -> None:
    for answer in (staff.get(f"{WHERE}/status"), forget(staff, all=True)):
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert "REDIS_URL" in answer.json()["detail"]
    told = staff.get(f"{WHERE}/analytics").json()
    assert told["most_asked"] == [] and told["since"] is None
    assert not LogEntry.objects.exists()


def test_a_gateway_that_is_too_busy_holds_nobody_up(
    gateway: Beside, staff: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(work: Any) -> None:
        work.close()
        raise TimeoutError

    monkeypatch.setattr(vitals.WORKER, "on_loop", late)
    answer = forget(staff, all=True)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert not LogEntry.objects.exists()


def test_a_tenant_forgets_its_own_and_nothing_of_others(
    gateway: Beside, acme: Tenant, with_key: Any
) -> None:
    other = TenantFactory()
    mine = with_key(ApiKeyFactory(tenant=acme, scopes=["manage:cache"]))
    for tenant in (acme, other):
        gateway.keep(tenant.pk, names=["nightly", f"client:{acme.pk}:nightly"])
    for tag in (f"client:{other.pk}:nightly", f"tenant:{other.pk}", "symbol:AAPL"):
        assert forget(mine, OWN, tag=tag).status_code == 200
    assert gateway.has(acme.pk) and gateway.has(other.pk)
    answer = forget(mine, OWN, tag="nightly")
    assert answer.json() == {"tag": "nightly", "everywhere": True}
    assert not gateway.has(acme.pk) and gateway.has(other.pk)
    for body in ({}, {"tag": ""}, {"tag": "a b"}, {"tag": "x" * 65}, {"tag": "a,b"}):
        assert forget(mine, OWN, **body).status_code == 422
    for more in ({"tenant": other.slug}, {"all": True}, {"operation": "finance.quote"}):
        assert forget(mine, OWN, tag="nightly", **more).status_code == 422


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (["manage:cache"], 200),
        (["manage:*"], 200),
        (["manage:keys"], 403),
        (["*"], 403),
        (["internal:write"], 403),
    ],
)
def test_which_keys_may(gateway: Beside, with_key: Any, scopes: list[str], status: int) -> None:
    assert forget(with_key(ApiKeyFactory(scopes=scopes)), OWN, tag="x").status_code == status


def test_which_people_may(
    gateway: Beside, as_role: Any, as_user: Any, anonymous: APIClient, acme: Tenant
) -> None:
    for role, status in (
        ("owner", 200),
        ("admin", 200),
        ("developer", 200),
        ("billing", 403),
        ("viewer", 403),
    ):
        assert forget(as_role(acme, role), OWN, tag="x").status_code == status, role
    assert forget(as_user(UserFactory(is_staff=True)), OWN, tag="x").status_code == 403
    assert forget(anonymous, OWN, tag="x").status_code == 401


def test_a_tenant_that_forgets_without_end_is_slowed_down(
    gateway: Beside, with_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.v1.cache.INVALIDATIONS", "2/m")
    client = with_key(ApiKeyFactory(scopes=["manage:cache"]))
    assert [forget(client, OWN, tag="x").status_code for _ in range(3)] == [200, 200, 429]


class TestWithAStore:
    @pytest.fixture
    def gateways(self, monkeypatch: pytest.MonkeyPatch, valkey: Valkey) -> Iterator[Beside]:
        with beside(monkeypatch, 2, valkey.url) as made:
            yield made

    def test_every_gateway_forgets_within_a_second(
        self, gateways: Beside, staff: APIClient, acme: Tenant
    ) -> None:
        key = gateways.keep(acme.pk)
        eventually(lambda: gateways.has(acme.pk, at=1))
        gateways.keep(acme.pk, "MSFT", to=1)
        told = forget(staff, tag="symbol:AAPL")
        assert told.json()["everywhere"] is True
        assert not gateways.has(acme.pk)
        begun = time.monotonic()
        eventually(lambda: not gateways.has(acme.pk, at=1))
        assert time.monotonic() - begun < 1
        assert gateways.has(acme.pk, "MSFT", at=1)
        gateways.keep(acme.pk)
        eventually(lambda: gateways.has(acme.pk, at=1))
        assert forget(staff, key=key.hex()).json()["everywhere"] is True
        eventually(lambda: not gateways.has(acme.pk, at=1), seconds=1)
        assert gateways.has(acme.pk, "MSFT", at=1)

    def test_status_tells_what_the_store_holds(self, gateways: Beside, staff: APIClient) -> None:
        gateways.keep()

        def shared() -> Any:
            return staff.get(f"{WHERE}/status").json()["shared"]

        eventually(lambda: shared()["entries"] == 1)
        told = shared()
        assert told["usable"] and told["configured"] and told["bytes"] > 400
        assert told["limit_bytes"] == 256 << 20

    def test_with_the_store_away_it_says_how_far_it_reaches(
        self, gateways: Beside, staff: APIClient, valkey: Valkey
    ) -> None:
        gateways.keep()
        valkey.kill()
        answer = forget(staff, tag="symbol:AAPL")
        assert (answer.status_code, answer.json()["everywhere"]) == (200, False)
        assert not gateways.has()
        shared = staff.get(f"{WHERE}/status").json()["shared"]
        assert (shared["usable"], shared["entries"]) == (False, None)
