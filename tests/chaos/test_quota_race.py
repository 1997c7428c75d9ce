"""G1: 256 clients of three processes race for one quota. It lets in what it allows, exactly;
where calls reserve more than they use, never more, and nearly all of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx2
import pytest

from accounts.identity import Identity
from providers.snapshot import ProviderSpec
from tenants.keys import Mode
from tenants.quotas import EVERY, TENANT_SCOPES, WEIGHTED, Metric, Quota, QuotaScope
from tenants.windows import Window, period
from tests.chaos.client import prompt
from tests.chaos.racers import CLIENTS, Outcome, Race, Racers, Sampler, racing, sampling
from tests.chaos.reporting import FIGURES
from tests.patience import ROUNDS, eventually
from tests.services.cluster import Cluster
from tests.services.valkey import Valkey
from usage.counters.claims import Amounts, QuotaClaim
from usage.counters.scripts import PREFIX
from usage.demand import Demands

pytestmark = pytest.mark.chaos

Cell = tuple[QuotaScope, Metric, Window]
Note = Callable[[str, object], None]
LATER = {  # seconds on, when a window lies in the future, so that nothing of it is in the ledger
    Window.MINUTE: 300,
    Window.HOUR: 3 * 3600,
    Window.DAY: 3 * 86_400,
    Window.MONTH: 70 * 86_400,
}
CELLS: list[Cell] = list(itertools.product(QuotaScope, Metric, Window))
CAP = 1_000_000  # of which a call reserves 2 % at most
USABLE = 0.95


def some_cells(number: int) -> list[Cell]:
    """Every scope with every metric, every metric and every scope with every window."""
    windows = list(Window)
    return [
        (scope, metric, windows[(row + column + number) % len(windows)])
        for row, scope in enumerate(QuotaScope)
        for column, metric in enumerate(Metric)
    ]


def claims_of(quotas: Sequence[Quota], now: float, number: int) -> tuple[QuotaClaim, ...]:
    """As a call of tenant `number` claims them; provider's quotas are another part's."""
    if quotas[0].scope is QuotaScope.PROVIDER:
        spec: Any = dict.fromkeys(ProviderSpec.__dataclass_fields__)
        spec |= {
            "slug": f"lab-{number}",
            "quotas": tuple(quotas),
            "rate_limits": (),
            "time_zone": "UTC",
        }
        demand = Demands().of_provider(ProviderSpec(**spec | {"quotas_since": 0}), "gpt-x", "chat")
    else:
        identity = Identity(
            kind="key",
            mode=Mode.LIVE,
            scopes=frozenset("*"),
            tenant_id=number,
            tenant_public_id=f"ten_{number}",
            project_id=number,
            key_id=number,
            key_public_id=f"{number}",
            user_id=number,
            user_public_id=f"usr_{number}",
            quotas=tuple(quotas),
        )
        demand = Demands().of_caller(identity, "chat", "lab-chat", "127.0.0.1")
    assert demand is not None
    return tuple(claim for claim in demand.claims(now) if isinstance(claim, QuotaClaim))


@dataclass
class Course:
    """Where races are run, and what they were."""

    racers: Racers
    sampler: Sampler
    valkey: Valkey
    chance: random.Random
    samples: int = 0
    admitted: int = 0
    refused: int = 0
    races: int = 0
    began: float = field(default_factory=time.time)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def number(self) -> int:
        """A tenant's, that nobody had before."""
        return next(self._numbers)

    def claim(
        self, scope: QuotaScope, metric: Metric, window: Window, *, later: bool, **options: Any
    ) -> QuotaClaim:
        now = time.time() + (LATER[window] if later else 0)
        [claim] = claims_of([Quota(scope, metric, window, **options)], now, self.number())
        return claim

    def counted_all_of(self, window: Window) -> bool:
        """Whether the store may take its word that nothing was used before it counted."""
        return period(window, time.time(), "UTC").starts > self.began

    def forget(self, claim: QuotaClaim, used: int) -> None:
        """The store knows nothing of it, and the ledger that so much was used before."""
        self.racers.book.begin_with(claim, used)
        with self.valkey.client() as client:
            client.delete(PREFIX + claim.key)

    def run(self, claim: QuotaClaim, race: Race) -> list[Outcome]:
        self.races += 1
        self.sampler.watch(claim)
        outcomes = self.racers.run(replace(race, seed=self.chance.randrange(10**9)))
        seen = self.sampler.end()
        assert seen.most <= claim.quota.limit, (claim, seen)
        self.samples += seen.count
        self.admitted += sum(len(each.admitted) for each in outcomes)
        for each in outcomes:
            self.refused += each.refused.total()
            assert {*each.refused} <= {"quota_exceeded", "provider_unavailable"}, each.refused
        return outcomes

    def comes_to_rest(self, claim: QuotaClaim) -> int:
        """Used, which is what the ledger says, when nothing is reserved."""
        used, reserved = self.read(claim)
        deadline = time.monotonic() + 5
        while reserved and time.monotonic() < deadline:
            time.sleep(0.01)
            used, reserved = self.read(claim)
        assert (used, reserved) == (self.racers.book.total(claim), 0), claim
        return used

    def read(self, claim: QuotaClaim) -> tuple[int, int]:
        names = [f"{claim.counter}:used", f"{claim.counter}:reserved"]
        with self.valkey.client() as client:
            used, reserved = client.hmget(PREFIX + claim.key, names)
        return int(used or 0), int(reserved or 0)


@pytest.fixture
def seed() -> int:
    return secrets.randbelow(10**6)


@pytest.fixture
def course(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Iterator[Course]:
    folder = tmp_path_factory.mktemp("race")
    # Each client races until it is refused, so that nobody may be for want of an answer in time.
    with racing(valkey.url, folder, timeout=5.0) as racers, sampling(valkey.url) as sampler:
        yield Course(racers, sampler, valkey, random.Random(seed))


def provider_of(claim: QuotaClaim) -> str:
    is_providers = claim.quota.scope is QuotaScope.PROVIDER
    return str(dict(claim.subject)["provider"]) if is_providers else ""


def admits_exactly(course: Course, cell: Cell, calls: int) -> None:
    """As many calls as fit beside what was used before, and a rest too small for one more."""
    chance, metric = course.chance, cell[1]
    each = chance.choice([1, chance.randint(2, 1000)])
    later = chance.random() < 0.5 and cell[2] is not Window.LIFETIME
    is_new = later or course.counted_all_of(cell[2])
    before = 0 if is_new else chance.choice([0, chance.randint(1, 10**6)])
    rest, weights, amount = chance.randrange(each), frozenset[tuple[str, int]](), each
    if metric in WEIGHTED:
        weights, amount = frozenset({(EVERY, each)}), 1
    limit = before + calls * each + rest
    claim = course.claim(*cell, limit=limit, weights=weights, later=later)
    course.forget(claim, before)
    reserves = Amounts(**{metric.value: amount})
    outcomes = course.run(claim, Race((claim,), reserves, reserves, provider_of(claim)))

    told = (*map(str, cell), f"{calls=} {each=} {before=} {rest=} {later=}")
    assert sum(len(each.admitted) for each in outcomes) == calls, told
    assert course.comes_to_rest(claim) == before + calls * each, told


def uses_nearly_all(course: Course, cell: Cell, seconds: float) -> float:
    """The part that was used of a limit of which each call reserves 2 % at most, and uses some."""
    claim = course.claim(*cell, limit=CAP, later=False)
    course.forget(claim, 0)
    most = Amounts(**{cell[1].value: CAP // 50})
    race = Race(
        (claim,),
        Amounts(),
        most,
        provider_of(claim),
        exact=False,
        seconds=seconds,
        lasting=(0.0, 0.02),
    )
    part = 0.0
    for _ in range(ROUNDS):  # a busy machine makes fewer calls in a race than there is room for
        course.run(claim, race)
        part = course.comes_to_rest(claim) / CAP
        if part >= USABLE:
            break
    assert USABLE <= part <= 1, (*map(str, cell), part)
    return part


def figures(what: str, course: Course, seed: int, began: float, **more: Any) -> str:
    told = {
        "races": course.races,
        "admitted": course.admitted,
        "refused": course.refused,
        "samples": course.samples,
        **more,
        "seed": seed,
        "seconds": round(time.monotonic() - began),
    }
    return f"quota race, {what}: " + " ".join(f"{name}={value}" for name, value in told.items())


def test_as_many_are_admitted_as_the_quota_allows(
    course: Course, seed: int, is_long: bool, record_property: Note
) -> None:
    began = time.monotonic()
    for number, calls in enumerate((1, 7, 100)):
        for cell in CELLS if is_long else some_cells(number)[number::3]:
            admits_exactly(course, cell, calls)
    for cell in some_cells(3) if is_long else ():
        admits_exactly(course, cell, 10_000)
    record_property(FIGURES, figures("exact", course, seed, began))


def test_nearly_all_of_a_cap_can_be_used_and_no_more(
    course: Course, seed: int, is_long: bool, record_property: Note
) -> None:
    began = time.monotonic()
    cells = [cell for cell in some_cells(4) if cell[1] is not Metric.REQUESTS]
    seconds = 2.0 if is_long else 1.0
    parts = [uses_nearly_all(course, cell, seconds) for cell in (cells if is_long else cells[::6])]
    line = figures("worst case first", course, seed, began, least_used=f"{min(parts):.1%}")
    record_property(FIGURES, line)


def test_of_many_quotas_at_once_the_tightest_counts(
    course: Course, seed: int, is_long: bool, record_property: Note
) -> None:
    """All windows of all scopes in one call: what one of them refuses, none of them counts."""
    began = time.monotonic()
    for calls in (1, 7, 100, 1000) if is_long else (1, 100):
        tightest = course.chance.randrange(30)
        quotas = [
            Quota(scope, Metric.REQUESTS, window, calls + abs(place - tightest))
            for place, (scope, window) in enumerate(
                itertools.product((*TENANT_SCOPES, QuotaScope.GLOBAL), Window)
            )
        ]
        claims = claims_of(quotas, time.time(), course.number())
        for claim in claims:
            course.forget(claim, 0)
        one = Amounts(requests=1)
        outcomes = course.run(claims[tightest], Race(claims, one, one))
        assert sum(len(each.admitted) for each in outcomes) == calls
        assert {course.comes_to_rest(claim) for claim in claims} == {calls}
    record_property(FIGURES, figures("30 quotas a call", course, seed, began))


TENANT = """
tenants:
  - slug: {slug}
    plan: unlimited
    projects: [{{slug: default}}]
    keys: [{{name: live, mode: live, scopes: ["*"]}}]
    quotas: [{quota}]
"""
AUDITOR = """
tenants:
  - slug: acme
    keys: [{name: auditor, mode: live, scopes: ["internal:read"]}]
"""
ASK = prompt(20, 1, stream=False)
SIZE = len(json.dumps(ASK).encode())
# Every scope, every metric and every window at least once: scope, metric, window, what a call
# uses, calls. Those of which a call reserves more than it uses are raced for otherwise.
SYSTEM_CELLS = [
    ("tenant", "requests", "minute", 1, 1),
    ("key", "requests", "hour", 1, 7),
    ("user", "requests", "month", 1, 100),
    ("route", "requests", "lifetime", 1, 100),
    ("project", "credits", "month", 1, 100),
    ("tenant", "bytes", "day", SIZE, 100),
    ("provider", "requests", "day", 1, 100),
    ("global", "requests", "lifetime", 1, 100),
]
WORST_CASE_CELLS = [("tenant", "cost", "day", 20_000), ("user", "tokens", "hour", 20_000)]
ROOM = 20.0  # seconds for which a window must last, for a race in it
GIVEN_BACK = 20.0  # seconds within which a place that was granted unheard is free again
USING_UP = 60.0  # seconds
SIGN_UP = """
from accounts.models import Membership, User
from tenants.models import Tenant
tenant = Tenant.objects.get(slug="{slug}")
user = User.objects.create_user("{slug}@example.test", "correct horse battery staple")
Membership.objects.create(user=user, tenant=tenant, role="developer")
"""


@dataclass
class Field:
    """The whole system, and what was seen of it."""

    cluster: Cluster
    most: float = 0.0
    samples: int = 0
    users: dict[str, str] = field(default_factory=dict)
    """By tenant, the access token of the user who calls instead of its key."""

    def credential(self, tenant: str) -> str:
        return self.users.get(tenant) or self.cluster.keys[f"{tenant}/live"]

    def sign_in(self, tenant: str) -> None:
        self.cluster.manage("shell", "-c", SIGN_UP.format(slug=tenant))
        body = {"email": f"{tenant}@example.test", "password": "correct horse battery staple"}
        answer = httpx2.post(f"{self.cluster.urls[0]}/api/v1/auth/login", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        self.users[tenant] = answer.json()["access"]

    def race_exactly(self, tenant: str, calls: int) -> Counter[int]:
        """Until so many were let in. What was granted unheard, for want of an answer in time, is
        given back, and can be had."""
        statuses, deadline = self.race(tenant, ASK), time.monotonic() + GIVEN_BACK
        while statuses[200] < calls and time.monotonic() < deadline:
            statuses += self.race(tenant, ASK)
        return statuses

    def race(self, tenant: str, ask: dict[str, Any], seconds: float = 0.0) -> Counter[int]:
        """The statuses of the answers; each client calls until it is refused, or so long."""
        with ThreadPoolExecutor(1) as threads:
            self._over = False
            sampling = threads.submit(self._sample, tenant)
            try:
                return asyncio.run(self._race(tenant, ask, seconds))
            finally:
                self._over = True
                sampling.result()

    def apply(self, text: str, shown: dict[str, Any] | None = None) -> None:
        """Wait until it is in force at every gateway, and shown there as such a quota."""
        self.cluster.apply(text)
        self.cluster.in_force()
        if shown is not None:
            for url in self.cluster.urls:
                eventually(partial(self._shows, url, shown))

    def used(self, metric: str, tenant: str) -> int:
        [row] = self.cluster.rows(
            "SELECT count(*) AS requests, sum(charge) AS cost, sum(units) AS credits,"
            " sum(bytes) AS bytes, sum(input_tokens + output_tokens) AS tokens FROM usage_usagerecord"
            " JOIN tenants_tenant ON tenants_tenant.id = tenant_id WHERE slug = ?",
            tenant,
        )
        return int(row[metric] or 0)

    async def _race(self, tenant: str, ask: dict[str, Any], seconds: float) -> Counter[int]:
        statuses, end = Counter[int](), time.monotonic() + seconds

        async def calls() -> None:
            client, again = self.cluster.client(), True
            while again:
                seen = await client.call(self.credential(tenant), ask)
                statuses[seen.status] += 1
                again = time.monotonic() < end if seconds else seen.status == 200
                if seen.status != 200:
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(calls() for _ in range(CLIENTS)))
        return statuses

    def _sample(self, tenant: str) -> None:
        """What each gateway in turn tells the tenant of its quotas."""
        for url in itertools.cycle(self.cluster.urls):
            if self._over:
                return
            headers = {"Authorization": f"Bearer {self.credential(tenant)}"}
            status, body = self.cluster.get(f"{url}/api/v1/quotas", **headers)
            for quota in json.loads(body)["data"] if status == 200 else ():
                self.samples += 1
                self.most = max(self.most, (quota["used"] + quota["reserved"]) / quota["limit"])

    def _shows(self, url: str, shown: dict[str, Any]) -> bool:
        headers = {"Authorization": f"Bearer {self.cluster.keys['acme/auditor']}"}
        status, body = self.cluster.get(f"{url}/internal/v1/quotas?mode=live", **headers)
        assert status == 200, body
        return any(shown.items() <= quota.items() for quota in json.loads(body)["data"])


@pytest.mark.only_long  # the races above ask the counters alone in either form
def test_over_the_whole_system(new_cluster: Callable[..., Cluster], record_property: Note) -> None:
    field, began = Field(new_cluster(gateways=3)), time.monotonic()
    field.apply(AUDITOR)
    for scope, metric, window, each, calls in SYSTEM_CELLS:
        slug, limit = f"race-{scope}-{metric}", each * calls + each - 1
        quota = f"scope: {scope}, metric: {metric}, window: {window}, limit: "
        shown = {"scope": scope, "metric": metric, "window": window}
        is_tenants = scope not in ("provider", "global")
        field.apply(TENANT.format(slug=slug, quota=f"{{{quota}{limit}}}" if is_tenants else ""))
        if scope == "provider":
            field.apply(
                f"providers: [{{slug: lab, quotas: [{{{quota}{limit + _asked(field)}}}]}}]", shown
            )
        elif scope == "global":
            field.apply("providers: [{slug: lab, quotas: []}]")
            field.apply(f"house: {{quotas: [{{{quota}{limit + _asked(field)}}}]}}", shown)
        if scope == "user":
            field.sign_in(slug)
        has_room(window)
        statuses = field.race_exactly(slug, calls)
        assert statuses[200] == calls, (scope, metric, statuses)
        assert {*statuses} <= {200, 402, 429, 503}, (scope, metric, statuses)
        assert field.used(metric, slug) == each * calls
    field.apply("house: {quotas: []}")
    parts = {f"{cell[1]}_used": f"{_nearly_all(field, *cell):.1%}" for cell in WORST_CASE_CELLS}
    assert field.most <= 1
    told = {"races": len(SYSTEM_CELLS) + len(parts), "samples": field.samples, **parts}
    line = " ".join(f"{name}={value}" for name, value in told.items())
    record_property(
        FIGURES, f"quota race, whole system: {line} seconds={round(time.monotonic() - began)}"
    )


def has_room(window: str) -> None:
    """Wait until a window begins, where the present one is about to end."""
    ends = period(Window(window), time.time(), "UTC").ends
    if ends is not None and ends - time.time() < ROOM:
        eventually(lambda: time.time() > ends, ROOM + 5)


def _asked(field: Field) -> int:
    """Calls so far, which all asked this provider."""
    [row] = field.cluster.rows("SELECT count(*) AS n FROM usage_usagerecord WHERE mode = 'live'")
    return int(row["n"])


def _nearly_all(field: Field, scope: str, metric: str, window: str, cap: int) -> float:
    """The used part of a cap, of which a call reserves 2 % at most and uses less."""
    slug = f"race-{scope}-{metric}"
    quota = f"{{scope: {scope}, metric: {metric}, window: {window}, limit: {cap}}}"
    field.apply(TENANT.format(slug=slug, quota=quota))
    if scope == "user":
        field.sign_in(slug)
    has_room(window)
    part, deadline = 0.0, time.monotonic() + USING_UP
    while part < USABLE and time.monotonic() < deadline:
        statuses = field.race(slug, ASK | {"max_tokens": 100}, seconds=10)
        assert {*statuses} <= {200, 402, 429, 503}, statuses
        part = field.used(metric, slug) / cap
    assert USABLE <= part <= 1, (scope, metric, part)
    return part


def test_the_whole_system_is_raced_by_all_there_is() -> None:
    cells = {(scope, metric, window) for scope, metric, window, *_ in SYSTEM_CELLS}
    cells |= {(scope, metric, window) for scope, metric, window, _ in WORST_CASE_CELLS}
    for place, names in enumerate((QuotaScope, Metric, Window)):
        assert {cell[place] for cell in cells} == {*names}
