"""Requests, quotas, prices, code samples and the status of operations."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import subprocess
import sys
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from api.operation_examples import example_of
from portal.samples import samples
from portal.templatetags.humane import of_operations
from providers.operations import registry
from tenants.models import ApiKey, Tenant
from tests.api.test_dashboard import called
from tests.factories import (
    ApiKeyFactory,
    AttemptFactory,
    PriceFactory,
    TenantFactory,
    UsageRecordFactory,
)
from usage.refusals import Count, Kind, add
from usage.waterfall import bars

pytestmark = [
    pytest.mark.django_db,
    # The test client is synchronous; that it streams is shown in tests/chaos/test_export.py.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
]
REQUESTS = "/app/acme/requests/"
SHIPPED = frozenset({"openai", "open-meteo"})


def ids(browser: Client, **query: str) -> list[str]:
    page = browser.get(REQUESTS, query)
    return [record.request_id for record in page.context["records"]]


def test_requests_are_found_by_what_one_knows(tenant: Tenant, owner: Client) -> None:
    key = ApiKeyFactory(project=tenant.projects.get())
    good = called(
        tenant, 1, operation="finance.quote", key_id=key.pk, provider="labor", model="m"
    ).request_id
    bad = called(tenant, 2, operation="embeddings", code="upstream_timeout").request_id
    old = called(tenant, 50).request_id
    called(TenantFactory(), 1)
    assert ids(owner) == [good, bad]
    assert ids(owner, span="7") == [good, bad, old]
    assert ids(owner, outcome="error") == [bad]
    assert ids(owner, operation="finance.quote") == ids(owner, key=key.key_id) == [good]
    assert ids(owner, provider=" labor ") == ids(owner, model="m", provider="labor") == [good]
    assert ids(owner, model="m\0x") == ids(owner, provider="labo") == []
    assert ids(owner, mode="test") == ids(owner, key="key_of_nobody") == []
    assert owner.get(REQUESTS, {"q": f" {good.upper()} "})["Location"] == f"{REQUESTS}{good}/"
    nobodys = called(TenantFactory(), 1).request_id
    assert f"has the id {nobodys}" in owner.get(REQUESTS, {"q": nobodys}).content.decode()
    assert "no request id" in owner.get(REQUESTS, {"q": "abc"}).content.decode()


def test_refused_calls_are_told_by_reason(tenant: Tenant, owner: Client) -> None:
    key = ApiKeyFactory(project=tenant.projects.get(), name="loud")
    now = timezone.now().timestamp()
    kind = Kind(tenant.pk, key.pk, "live", "embeddings", "rate_limit_exceeded", "key-minute")
    others = kind._replace(tenant_id=tenant.pk + 1, limit_name="CANARY")
    hours = {1: Count(2, now - 3600, "a"), 0: Count(3, now, "b"), 40: Count(9, now - 144_000, "c")}
    starts = now // 3600 * 3600
    counts = {(int(starts - 3600 * ago), kind): count for ago, count in hours.items()}
    add(counts | {(int(starts), others): Count(1, now, "d")})

    def told(**query: str) -> list[tuple[int, str]]:
        page = owner.get(REQUESTS, query)
        assert "CANARY" not in page.content.decode()
        return [(row["all"], row["request"]) for row in page.context["refused"]]

    assert told() == told(operation="embeddings") == told(key=key.key_id) == [(5, "b")]
    assert told(span="7") == [(14, "c")]
    assert told(mode="test") == told(operation="rerank") == told(key="key_of_nobody") == []
    page = owner.get(REQUESTS).content.decode()
    assert all(text in page for text in ("rate limit exceeded", "key-minute", "loud"))


def test_older_ones_are_on_the_next_page(tenant: Tenant, owner: Client) -> None:
    all_of_them = [called(tenant, 0.001 * n).request_id for n in range(60)]
    page = owner.get(REQUESTS)
    called(tenant, 0)  # what comes meanwhile shifts nothing
    older = owner.get(f"{REQUESTS}?{page.context['older']}")
    seen = [record.request_id for p in (page, older) for record in p.context["records"]]
    assert seen == all_of_them and not older.context["older"]


def test_all_of_them_as_a_file(tenant: Tenant, owner: Client) -> None:
    mine = called(tenant, 2, cost=77_777).request_id
    called(TenantFactory(), 2)
    answer = owner.get(f"{REQUESTS}export/")
    rows = b"".join(answer).decode().splitlines()
    assert len(rows) == 2 and mine in rows[1] and "77777" not in rows[1]
    dates = {"from": "", "to": "2000-01-01", "format": "csv"}  # as the form sends them
    assert len(b"".join(owner.get(f"{REQUESTS}export/", dates)).splitlines()) == 1
    assert owner.get(f"{REQUESTS}export/?format=xml").status_code == 400


def test_a_calls_story(tenant: Tenant, owner: Client) -> None:
    record = called(tenant, 1, attempts=2, latency_ms=1000, cost=77_777, charge=99_000)
    for number, (after, took) in enumerate(((0, 400), (400, 600)), 1):
        AttemptFactory(
            request_id=record.request_id,
            number=number,
            created_at=record.created_at + dt.timedelta(milliseconds=after),
            latency_ms=took,
            provider=f"lab{number}",
            verdict="timeout" if number == 1 else "ok",
        )
    shown = owner.get(f"{REQUESTS}{record.request_id}/").content.decode()
    assert "lab1" in shown and "timeout" in shown and "0.10" in shown
    assert "77777" not in shown and "0.08" not in shown  # what providers take is not theirs
    drawn = [(bar.starts, bar.width) for bar in bars(record)]
    assert drawn == [(0, 40), (40, 60)]


@pytest.mark.parametrize(("after", "took"), [(-50, 10), (0, 0), (5000, 10), (999, 100_000)])
def test_bars_stay_in_the_picture(after: int, took: int, tenant: Tenant) -> None:
    record = UsageRecordFactory(tenant_id=tenant.pk, latency_ms=1000, attempts=1)
    AttemptFactory(
        request_id=record.request_id,
        created_at=record.created_at + dt.timedelta(milliseconds=after),
        latency_ms=took,
    )
    (bar,) = bars(record)
    assert 0 <= bar.starts < 100 and 0 < bar.width <= 100 - bar.starts


def test_quotas_are_bars(tenant: Tenant, owner: Client) -> None:
    quota = {"scope": "tenant", "metric": "requests", "window": "day", "limit": 4}
    cost = {"scope": "tenant", "metric": "cost", "window": "month", "limit_usd": "2"}
    Tenant.objects.filter(pk=tenant.pk).update(quotas=[quota, cost])
    called(tenant, 0, charge=500_000)
    page = owner.get("/app/acme/quotas/")
    shares = {q["metric"]: q["used_share"] for q in page.context["quotas"]}
    assert shares == {"requests": 25.0, "cost": 25.0}
    shown = page.content.decode()
    assert "1 of 4 used" in shown and "$0.50 of $2.00 used" in shown and "25.0 % used" in shown


def test_prices_are_the_tenants_own(tenant: Tenant, owner: Client) -> None:
    tenant.plan.markup = 5000  # 50 %
    tenant.plan.save()
    long_ago = timezone.now() - dt.timedelta(days=9)
    price = PriceFactory(model_id="gpt-x", input=1_000_000, output=None, effective_from=long_ago)
    shown = owner.get("/app/acme/limits/", {"q": "gpt-x"}).content.decode()
    assert "$1.5<" in shown and price.provider.slug in shown
    assert "gpt-x" not in owner.get("/app/acme/limits/", {"q": "none"}).content.decode()


def test_what_is_free_is_told_apart(tenant: Tenant, owner: Client) -> None:
    long_ago = timezone.now() - dt.timedelta(days=9)
    for slug, input_price in (("paid", 5), ("gratis", 0)):
        PriceFactory(
            model_id="m",
            provider__slug=slug,
            input=input_price,
            output=None,
            effective_from=long_ago,
        )
    context = owner.get("/app/acme/limits/").context
    assert [price.provider for price in context["prices"]] == ["paid"]
    assert [price.provider for price in context["free"]] == ["gratis"]


def test_limits_are_said_in_words() -> None:
    assert of_operations(["embeddings"]) == ", of embeddings"
    assert of_operations(["!a", "!b"]) == ", of all but a, b"
    assert of_operations([]) == ""


def test_the_code_carries_a_test_key_of_the_tenant(tenant: Tenant, owner: Client) -> None:
    assert "YOUR_TEST_KEY" in owner.get("/app/acme/start/").content.decode()
    assert not ApiKey.objects.exists()
    shown = owner.post("/app/acme/start/").content.decode()
    key = ApiKey.objects.get()
    assert key.mode == "test" and key.expires_at is not None and key.hint not in shown
    assert shown.count(f"pb_test_{key.public_id}_") == 7


@pytest.mark.parametrize("name", sorted(registry()))
def test_every_operation_has_code(name: str, tenant: Tenant, owner: Client) -> None:
    operation = registry()[name]
    example = example_of(operation)
    code = samples(operation, example, "http://127.0.0.1:1", "a'\"key")
    compile(code["Python"], name, "exec")
    assert all(f"http://127.0.0.1:1/api/v1/{operation.path[8:]}" in text for text in code.values())
    assert set(code) == {"curl", "Python", "JavaScript"}
    assert operation.request_validator.is_valid(example), example
    assert "…" not in json.dumps(example, ensure_ascii=False)


def test_the_code_does_what_it_says(tmp_path: Any) -> None:
    """The Python of a POST sends what it shows, quotes and all."""
    operation = registry()["chat.completions"]
    body = {"model": "fast", "messages": [{"role": "user", "content": 'it\'s "fine" \\ é\n'}]}
    code = samples(operation, body, "http://127.0.0.1:1", "k")["Python"]
    probe = code.replace("print(json.load(urlopen(request)))", "print(request.data.decode())")
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert json.loads(told.stdout) == body


def test_the_code_sends_a_recording_as_a_form() -> None:
    operation = registry()["audio.transcriptions"]
    code = samples(operation, example_of(operation), "http://127.0.0.1:1", "k'\"")
    told = shlex.split(code["curl"].replace("\\\n", " "))
    assert told[2:4] == ["-H", "Authorization: Bearer k'\""]
    assert told[4:] == ["-F", "model=whisper-1", "-F", "file=@recording.mp3"]
    assert "files={'file': file}" in code["Python"]
    assert 'form.append("model", "whisper-1");' in code["JavaScript"]


def test_the_code_keeps_what_was_spoken() -> None:
    operation = registry()["audio.speech"]
    code = samples(operation, example_of(operation), "http://127.0.0.1:1", "k")
    assert code["curl"].endswith("--output speech.mp3")
    assert '"speech.mp3"' in code["Python"] and "json()" not in code["JavaScript"]


def test_the_playground_takes_a_recording(tenant: Tenant, owner: Client) -> None:
    shown = owner.get("/app/acme/playground/", {"operation": "audio.transcriptions"})
    page = shown.content.decode()
    assert "put a recording of that name" in page
    assert 'type="file" id="p-file"' in page and 'id="p-model"' in page
    assert "data-body" not in page and 'id="p-stream"' not in page


def test_the_playground_shows_each_operation(tenant: Tenant, owner: Client) -> None:
    page = owner.get("/app/acme/playground/", {"operation": "weather.current"})
    shown = page.content.decode()
    assert 'name="lat"' in shown and "/api/v1/weather/current?lat=" in shown
    assert owner.get("/app/acme/playground/", {"operation": "<nothing>"}).status_code == 200


def test_operations_have_a_state(tenant: Tenant, owner: Client, shipped: Any) -> None:
    rows = owner.get("/app/acme/status/").context["rows"]
    states = {row["name"]: row["state"] for row in rows}
    assert states.keys() == registry().keys()
    assert states["weather.current"] == "ok" and states["chat.completions"] == "sandbox only"
