"""Providers asked on our own account: who, how often, what is kept, and what counts as a drift."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from django.utils import timezone

from api.configuration.activating import activate
from lib.models import Revision, Topic
from lib.problems import InvalidRequest, NotFound, RateLimited
from providers import definitions, snapshot
from providers.check_budget import KEPT, within_share
from providers.definition_models import Check, Drift
from providers.models import Model, Provider
from providers.verification import verify, verify_due
from tests.providers.definitions import (
    DRIFTED,
    GOOD,
    Upstream,
    house_secret,
    keyed,
    rates,
    replying,
)

pytestmark = pytest.mark.django_db
SECRET = "sk-very-secret/0123456789+="


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with replying() as upstream:
        yield upstream


@pytest.fixture
def upstream(server: Upstream) -> Upstream:
    server.status, server.body, server.headers = 200, GOOD, {}
    server.asked.clear()
    return server


@pytest.fixture(autouse=True)
def env(settings: Any) -> Any:
    """How the settings are changed: `env(VERIFY_PROVIDERS="all")`."""

    def change(**values: Any) -> None:
        settings.ENV = settings.ENV.model_copy(update=values)

    change(VERIFY_PROVIDERS="keyed")
    return change


def in_force(upstream: Upstream, slug: str = "my-rates", *, key: bool = False) -> Provider:
    """A provider at that upstream, activated as staff do it."""
    Provider.objects.create(
        slug=slug, adapter="manifest", base_url=upstream.url, allow_private_network=True
    )
    document, examples = rates(slug, upstream.url)
    row = definitions.create(
        slug=slug, document=keyed(document) if key else document, examples=examples, by="ann"
    )
    return activate(definition=row, by="ann").provider


def later(**past: int) -> None:
    """As if all that was done so far had been done so long ago."""
    for check in Check.objects.all():
        check.created_at -= dt.timedelta(**past)
        check.save()


def test_one_that_answers_as_told_is_good(upstream: Upstream) -> None:
    check = verify(provider=in_force(upstream), by="ann")
    assert (check.verdict, check.status, check.drift, check.by) == ("ok", 200, False, "ann")
    assert (check.kind, check.operation) == ("verification", "finance.fx_rate")
    assert [line for line, _ in upstream.asked] == ["GET /latest?base=EUR&symbols=USD"]
    assert not Drift.objects.exists()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, DRIFTED), (200, {}), (200, []), (200, b"<html>"), (200, {**GOOD, "date": 7}),
     (301, {}), (200, b"")],
)  # fmt: skip
def test_an_answer_that_no_longer_maps_is_a_drift_until_the_next_good_one(
    upstream: Upstream, status: int, body: Any
) -> None:
    provider, before = in_force(upstream), Revision.numbers()[Topic.ROUTING]
    upstream.status, upstream.body = status, body
    upstream.headers = {"location": f"{upstream.url}/elsewhere"} if status == 301 else {}
    with structlog.testing.capture_logs() as logs:
        check = verify(provider=provider, by="ann")
        verify(provider=provider, by="ann")
    assert check.drift and check.verdict == "bad_payload"
    assert [each["event"] for each in logs].count("provider_drift") == 1
    assert len(upstream.asked) == 2, "a redirect is not followed"
    drift = Drift.objects.get()
    assert (drift.slug, drift.since) == ("my-rates", check.created_at)
    assert drift.last_at > drift.since
    assert snapshot.load().providers["my-rates"].drifting
    assert Revision.numbers()[Topic.ROUTING] == before + 1, "told once, not with every answer"
    upstream.status, upstream.body, upstream.headers = 200, GOOD, {}
    with structlog.testing.capture_logs() as logs:
        verify(provider=provider, by="ann")
    assert logs[-1]["event"] == "provider_drift_cleared"
    assert not Drift.objects.exists()
    assert not snapshot.load().providers["my-rates"].drifting


@pytest.mark.parametrize(
    ("status", "verdict"), [(500, "upstream_unavailable"), (401, "auth"), (429, "rate_limited")]
)
def test_an_error_says_nothing_of_shapes(upstream: Upstream, status: int, verdict: str) -> None:
    provider = in_force(upstream)
    upstream.status, upstream.body = status, {"error": "x"}
    check = verify(provider=provider, by="ann")
    assert (check.verdict, check.drift) == (verdict, False)
    assert not Drift.objects.exists()
    upstream.status, upstream.body = 200, DRIFTED
    verify(provider=provider, by="ann")
    upstream.status = status
    verify(provider=provider, by="ann")
    assert Drift.objects.exists(), "and ends none"


def test_nobody_home_is_no_drift(upstream: Upstream) -> None:
    provider = in_force(upstream)
    provider.base_url = "http://127.0.0.1:1"
    provider.save()
    check = verify(provider=provider, by="ann")
    assert (check.verdict, check.status, check.drift) == ("unreachable", 0, False)


def test_a_private_address_is_refused_where_the_provider_does_not_allow_it(
    upstream: Upstream,
) -> None:
    provider = in_force(upstream)
    provider.allow_private_network = False
    provider.save()
    assert verify(provider=provider, by="ann").verdict == "unreachable"
    assert upstream.asked == []


def test_a_secret_that_is_said_back_is_not_kept(upstream: Upstream) -> None:
    provider = in_force(upstream, key=True)
    with pytest.raises(InvalidRequest, match="no credential that works"):
        verify(provider=provider, by="ann")
    house_secret(provider, SECRET)
    upstream.status, upstream.body = 404, {"error": f"who is {SECRET}"}
    check = verify(provider=provider, by="ann")
    assert "apikey=sk-very-secret%2F0123456789%2B%3D" in upstream.asked[0][0]
    assert check.message.startswith("who is") and "very-secret" not in check.message


def test_a_drained_credential_is_not_shown_to_it_again(upstream: Upstream) -> None:
    provider = in_force(upstream, key=True)
    first = house_secret(provider, "first-secret")
    house_secret(provider, "second-secret", "other")
    first.drained_at = timezone.now()
    first.save()
    verify(provider=provider, by="ann")
    assert "second-secret" in upstream.asked[0][0]


class TestDue:
    def test_off_is_off(self, upstream: Upstream, env: Any) -> None:
        house_secret(in_force(upstream, key=True), SECRET)
        env(VERIFY_PROVIDERS="off")
        assert verify_due() == 0 and upstream.asked == []

    def test_only_live_ones_with_a_credential_unless_all_are_wanted(
        self, upstream: Upstream, env: Any
    ) -> None:
        in_force(upstream, "keyless")
        in_force(upstream, "without", key=True)
        house_secret(in_force(upstream, "keyed", key=True), SECRET)
        away = in_force(upstream, "away", key=True)
        house_secret(away, SECRET)
        Provider.objects.filter(pk=away.pk).update(enabled=False)
        assert verify_due() == 1
        assert [check.slug for check in Check.objects.all()] == ["keyed"]
        env(VERIFY_PROVIDERS="all")
        assert verify_due() == 1
        assert {check.slug for check in Check.objects.all()} == {"keyed", "keyless"}
        assert {check.by for check in Check.objects.all()} == {"worker"}

    def test_everybody_has_a_turn_and_then_a_rest(
        self, upstream: Upstream, env: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        env(VERIFY_PROVIDERS="all")
        monkeypatch.setattr("providers.verification.AT_ONCE", 2)
        for number in range(3):
            in_force(upstream, f"p{number}")
        assert [verify_due() for _ in range(3)] == [2, 1, 0]
        later(minutes=61)
        assert verify_due() == 2

    def test_one_that_cannot_be_called_stops_no_other(self, upstream: Upstream, env: Any) -> None:
        env(VERIFY_PROVIDERS="all")
        broken = in_force(upstream, "a-broken")
        Provider.objects.filter(pk=broken.pk).update(manifest={"slug": "a-broken"})
        in_force(upstream, "b-fine")
        assert verify_due() == 1

    def test_no_more_in_an_hour_and_a_day_than_the_settings_say(
        self, upstream: Upstream, env: Any
    ) -> None:
        env(VERIFY_CALLS_PER_HOUR=2, VERIFY_CALLS_PER_DAY=3)
        provider = in_force(upstream)
        for _ in range(2):
            verify(provider=provider, by="ann")
        with pytest.raises(RateLimited):
            verify(provider=provider, by="ann")
        later(minutes=61)
        verify(provider=provider, by="ann")
        later(minutes=61)
        with pytest.raises(RateLimited):
            verify(provider=provider, by="ann")
        later(hours=24)
        verify(provider=provider, by="ann")
        assert len(upstream.asked) == 4

    @pytest.mark.parametrize(
        ("limit", "calls"),
        [
            ({"metric": "requests", "window": "day", "limit": 25}, 1),
            ({"metric": "requests", "window": "day", "limit": 19}, 0),
            ({"metric": "requests", "window": "month", "limit": 100}, 1),
            ({"metric": "credits", "window": "hour", "limit": 40}, 2),
            ({"metric": "tokens", "window": "day", "limit": 1}, 6),
            ({"metric": "requests", "window": "minute", "limit": 1}, 6),
        ],
    )
    def test_never_more_than_a_share_of_what_it_allows(
        self, upstream: Upstream, limit: Any, calls: int
    ) -> None:
        provider = in_force(upstream)
        provider.quotas = [limit]
        sent = 0
        while sent < 6 and within_share(provider):
            verify(provider=provider, by="ann")
            sent += 1
        assert sent == calls


def test_a_month_counts_by_days_too(upstream: Upstream, env: Any) -> None:
    provider = in_force(upstream)
    provider.quotas = [{"metric": "requests", "window": "month", "limit": 1300}]  # 65 a month
    verify(provider=provider, by="ann")
    assert within_share(provider)
    verify(provider=provider, by="ann")
    assert not within_share(provider)
    later(days=2)
    assert within_share(provider)


def test_the_last_results_are_kept(upstream: Upstream) -> None:
    provider = in_force(upstream)
    old = timezone.now() - dt.timedelta(days=90)
    Check.objects.bulk_create(
        Check(slug=slug, kind="trial", verdict="ok", latency_ms=1, by="x", created_at=old)
        for slug in ["my-rates"] * (KEPT + 5) + ["other"]
    )
    check = verify(provider=provider, by="ann")
    assert Check.objects.filter(slug="my-rates").count() == KEPT
    assert Check.objects.filter(slug="my-rates").first() == check
    assert Check.objects.filter(slug="other").count() == 1


class TestModels:
    """An AI provider is asked for its list of models, which costs nothing."""

    def lab(self, upstream: Upstream, adapter: str = "openai") -> Provider:
        provider = Provider.objects.create(
            slug="lab", adapter=adapter, base_url=upstream.url + "/v1", allow_private_network=True,
            settings={"query": {"api-version": "7"}} if adapter == "openai" else {},
        )  # fmt: skip
        Model.objects.create(provider=provider, model_id="m")
        house_secret(provider, SECRET)
        return provider

    @pytest.mark.parametrize("adapter", ["openai", "anthropic", "gemini"])
    @pytest.mark.parametrize("body", [{"data": []}, {"models": []}, []])
    def test_a_list_is_good(self, upstream: Upstream, adapter: str, body: Any) -> None:
        upstream.body = body
        check = verify(provider=self.lab(upstream, adapter), by="ann")
        assert (check.verdict, check.operation) == ("ok", "models")
        line, headers = upstream.asked[0]
        assert line.partition("?")[0] == "GET /v1/models"
        assert line.endswith("?api-version=7") is (adapter == "openai")
        assert any(SECRET in value for value in headers.values())

    @pytest.mark.parametrize("body", [{"data": "none"}, {}, 7, b"<html>", b""])
    def test_anything_else_is_a_drift(self, upstream: Upstream, body: Any) -> None:
        upstream.body = body
        assert verify(provider=self.lab(upstream), by="ann").drift

    def test_a_refused_key_is_told(self, upstream: Upstream) -> None:
        upstream.status, upstream.body = 401, {"error": {"message": f"no {SECRET}"}}
        check = verify(provider=self.lab(upstream), by="ann")
        assert (check.verdict, check.drift) == ("auth", False)
        assert SECRET not in check.message

    def test_where_nothing_is_free_nothing_is_sent(self, upstream: Upstream) -> None:
        provider = self.lab(upstream, "cohere")
        with pytest.raises(NotFound):
            verify(provider=provider, by="ann")
        assert verify_due() == 0 and upstream.asked == []
