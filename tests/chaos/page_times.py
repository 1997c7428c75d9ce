"""Every page and dashboard over a ledger of some size: its queries, and how long it takes.

`python -m tests.chaos.page_times <rows> <turns>` on the database of DATABASE_URL, which has the
catalogue: fills the ledger with so many rows, sums them up, and prints JSON: by page its
queries, its times, and how much of them it was at work (both in ms, sorted).
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

DAYS = 30
TENANTS = 20
PAGES_OF_ADMIN = ("", "figures/", "alerts/", "cache/", "scores/", "definitions/", "export/")
LEDGER = "/admin/usage/usagerecord/"
OF_LEDGER = ("outcome=error", "mode=test", "streamed__exact=0", "q=nothing", "p=3")
OF_PORTAL = {
    "requests": (
        "span=90",
        "outcome=error&span=90",
        "operation=finance.quote&span=90",
        "mode=test&span=90",
        "provider=nobody&span=90",
    ),
    "usage": ("by=key&span=365", "by=model&span=90", "by=hour&span=7"),
}
DASHBOARDS = ("system-health", "llm-performance", "cache-stats", "database-health", "alerts")

# One statement for both databases, but for how they number, cut and write.
COLUMNS = (
    "request_id, created_at, tenant_id, project_id, key_id, mode, operation, route, provider,"
    " model, status, code, streamed, estimate, attempts, input_tokens, output_tokens,"
    " cached_tokens, cache_write_tokens, reasoning_tokens, units, bytes, charge, cost, markup,"
    " cache, latency_ms"
)
# Half of the calls are the first tenant's; each has two keys, and there are twelve things to ask.
FILL = """
INSERT INTO usage_usagerecord ({columns})
SELECT {id}, {moment}, tenant, tenant, tenant * 2 + n % 2, 'live',
    CASE n % 12 WHEN 0 THEN 'finance.quote' WHEN 1 THEN 'embeddings' ELSE 'chat.completions' END,
    'fast', 'lab' || n % 4, 'model-' || n % 12, 200, CASE WHEN n % 25 = 0 THEN
    'upstream_timeout' ELSE 'ok' END, {true}, '', CASE WHEN n % 10 = 0 THEN 2 ELSE 1 END,
    n % 1000, n % 777, 0, 0, 0, 1, n % 4096, n % 99991, n % 997, 0, '', n % 3000
FROM ({numbered}) AS numbered
"""
NUMBERED = """SELECT n, {hex_ms} AS ms, at, CASE WHEN n % 2 = 0 THEN {first}
    ELSE {first} + 1 + n % {others} END AS tenant
FROM (SELECT n, {begin} + n * {step} AS at FROM ({series}) AS series) AS timed"""
ATTEMPTS = """
INSERT INTO usage_attempt (request_id, number, created_at, provider, model, verdict, status,
    latency_ms, tokens, units, cost)
SELECT request_id, number, created_at, provider, model,
    CASE number WHEN 1 THEN 'timeout' ELSE 'ok' END, 200, latency_ms / 2, 0, 0, 0
FROM usage_usagerecord CROSS JOIN (SELECT 1 AS number UNION ALL SELECT 2) AS numbers
WHERE attempts = 2
"""
FEEDBACK = """
INSERT INTO usage_feedback (request_id, tenant_id, target, score, comment, created_at, changed_at)
SELECT request_id, tenant_id, 'lab/gpt-x', 0.5, '', created_at, created_at
FROM usage_usagerecord WHERE latency_ms < 30
"""


def fill(rows: int, first: int) -> None:
    """The ledger anew, its calls spread evenly over the last days, and all sums of it."""
    from django.db import connection

    from usage import rollups

    begin = int((time.time() - DAYS * 86_400) * 1000)
    is_sqlite = connection.vendor == "sqlite"
    numbered = NUMBERED.format(
        hex_ms="printf('%012x', at)" if is_sqlite else "lpad(to_hex(at), 12, '0')",
        begin=begin if is_sqlite else f"{begin}::bigint",
        step=DAYS * 86_400_000 // rows,
        first=first,
        others=TENANTS - 1,
        series="WITH RECURSIVE series (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series"
        f" WHERE n < {rows - 1}) SELECT n FROM series"
        if is_sqlite
        else f"SELECT n FROM generate_series(0::bigint, {rows - 1}) AS n",
    )
    number = "printf('%012x', n)" if is_sqlite else "lpad(to_hex(n), 12, '0')"
    statement = FILL.format(
        columns=COLUMNS,
        id=f"substr(ms, 1, 8) || '-' || substr(ms, 9) || '-7000-8000-' || {number}",
        moment="strftime('%Y-%m-%d %H:%M:%f', at / 1000.0, 'unixepoch')"
        if is_sqlite
        else "to_timestamp(at / 1000.0)",
        true="1" if is_sqlite else "true",
        numbered=numbered,
    )
    with connection.cursor() as cursor:
        for table in ("usagerecord", "attempt", "feedback"):
            cursor.execute(f"DELETE FROM usage_{table}")
        for each in (statement, ATTEMPTS, FEEDBACK):
            cursor.execute(each)
        rollups.rebuild()
        cursor.execute("ANALYZE")


def people() -> tuple[Any, Any]:
    """The first of the tenants, and one of its keys, with which staff ask too."""
    from tests import factories

    tenants = [
        factories.ProjectFactory(slug="default", tenant__slug=f"siege-{n}").tenant
        for n in range(TENANTS)
    ]
    project = tenants[0].projects.get()
    keys = [
        factories.ApiKeyFactory(project=project, scopes=[scope]) for scope in ("*", "internal:read")
    ]
    quota = {"scope": "tenant", "metric": "cost", "window": "month", "limit_usd": "1000000"}
    type(tenants[0]).objects.filter(pk=tenants[0].pk).update(quotas=[quota])
    return tenants[0], keys


def visits(tenant: Any, keys: Any) -> Iterator[tuple[str, Callable[[str], Any]]]:
    """Each page, and who asks for it."""
    from django.contrib import admin
    from django.test import Client
    from django.urls import reverse

    from portal.urls import urlpatterns
    from providers.models import Provider, Route
    from tests import factories
    from usage.models import UsageRecord

    root, owner = Client(HTTP_HOST="127.0.0.1"), Client(HTTP_HOST="127.0.0.1")
    root.force_login(factories.UserFactory(is_staff=True, is_superuser=True))
    owner.force_login(factories.MembershipFactory(tenant=tenant, role="owner").user)
    last = UsageRecord.objects.of_tenant(tenant.pk).order_by("-request_id")[0].request_id
    for path in PAGES_OF_ADMIN:
        yield f"/admin/{path}", root.get
    for model in admin.site._registry:
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"admin:{label}_changelist"), root.get
    for query in (*OF_LEDGER, f"month={time.strftime('%Y-%m')}", f"q={last}"):
        yield f"{LEDGER}?{query}", root.get
    yield reverse("admin:usage_usagerecord_change", args=[last]), root.get
    yield reverse("admin:tenants_tenant_change", args=[tenant.pk]), root.get
    yield reverse("admin:providers_provider_change", args=[Provider.objects.all()[0].pk]), root.get
    yield reverse("admin:providers_route_change", args=[Route.objects.all()[0].pk]), root.get
    for pattern in urlpatterns:
        is_page = getattr(pattern.callback, "read", ()) and pattern.name != "requests-export"
        if is_page and pattern.pattern.converters.keys() == {"slug"}:
            where = reverse(f"portal:{pattern.name}", args=[tenant.slug])
            yield where, owner.get
            for query in OF_PORTAL.get(str(pattern.name), ()):
                yield f"{where}?{query}", owner.get
    yield reverse("portal:request", args=[tenant.slug, last]), owner.get
    for of, key in zip(("tenant", "staff"), keys, strict=True):
        asks = Client(HTTP_HOST="127.0.0.1", HTTP_AUTHORIZATION=f"Bearer {key.text}")
        for name in DASHBOARDS:
            where = f"/api/dashboard/{name}?as={of}"
            if of == "staff" or name in {"llm-performance", "cache-stats", "alerts"}:
                yield where, lambda path, asks=asks: asks.get(path.partition("?")[0])


def measured(where: str, get: Callable[[str], Any], turns: int) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    get(where)  # what is loaded at the first time is loaded
    with CaptureQueriesContext(connection) as captured:
        answer = get(where)
        assert answer.status_code == 200, (where, answer.status_code)
        queries = len(captured)
    times, busy = [], []
    for _ in range(turns):
        begun, worked = time.perf_counter(), time.process_time()
        get(where).content  # noqa: B018
        times.append((time.perf_counter() - begun) * 1000)
        busy.append((time.process_time() - worked) * 1000)
    return {"queries": queries, "ms": sorted(times), "cpu": sorted(busy)}


def main(rows: int, turns: int) -> None:
    import django

    django.setup()
    from tenants.models import Tenant

    tenant, keys = people()
    assert Tenant.objects.filter(pk__gte=tenant.pk).count() == TENANTS
    told = {}
    filling = -time.monotonic()
    fill(rows, tenant.pk)
    filling += time.monotonic()
    for where, get in visits(tenant, keys):
        page = re.sub(r"[0-9a-f-]{36}", "last", where).replace(f"/{tenant.pk}/", "/first/")
        told[page] = measured(where, get, turns)
    print(json.dumps({"filling": filling, "pages": told}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
