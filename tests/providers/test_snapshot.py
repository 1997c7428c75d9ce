"""What the data path sees of the tables: all of it at once, and nothing of a broken row."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from structlog.testing import capture_logs

from providers import models
from providers.catalogue.documents import FOLDER, read_document
from providers.retry_policy import RetryPolicy
from providers.snapshot import ProviderSpec, Snapshot, load
from providers.timeouts import Timeouts
from tenants.models import HousePolicy
from tests.factories import (
    CredentialFactory,
    ModelFactory,
    OperationFactory,
    ProviderFactory,
    RouteFactory,
    TargetFactory,
    TenantFactory,
)

pytestmark = pytest.mark.django_db
CHAT = "chat.completions"


def names(snapshot: Snapshot, alias: str, operation: str = CHAT) -> list[str]:
    route = snapshot.route(operation, alias)
    return [target.name for target in route.targets] if route else []


def test_an_empty_database_is_an_empty_snapshot() -> None:
    for model in (models.Target, models.Route, models.Model, models.Provider):
        model.objects.all().delete()
    snapshot = load()
    assert snapshot.providers == {} and snapshot.routes == {} and snapshot.models == {}
    assert snapshot.route(CHAT, "fast") is None


def test_a_route_has_its_targets_in_order() -> None:
    route = RouteFactory(alias="fast", timeouts={"idle_ms": 5000}, strategy="weighted")
    for position, slug in ((2, "second"), (1, "first"), (3, "third")):
        model = ModelFactory(provider=ProviderFactory(slug=slug), model_id="m")
        TargetFactory(route=route, model=model, position=position, weight=position)
    snapshot = load()
    assert names(snapshot, "fast") == ["first/m", "second/m", "third/m"]
    found = snapshot.route(CHAT, "fast")
    assert found and found.strategy == "weighted" and found.timeouts == {"idle_ms": 5000}
    assert [target.weight for target in found.targets] == [1, 2, 3]


def test_what_is_disabled_is_not_there() -> None:
    route = RouteFactory(alias="fast")
    on = TargetFactory(route=route)
    TargetFactory(route=route, enabled=False)
    TargetFactory(route=route, model=ModelFactory(enabled=False))
    TargetFactory(route=route, model=ModelFactory(provider=ProviderFactory(enabled=False)))
    RouteFactory(alias="off", enabled=False)
    OperationFactory(name="finance.quote", enabled=False)
    models.Operation.objects.filter(name="finance.quote").update(enabled=False)
    snapshot = load()
    assert names(snapshot, "fast") == [str(on.model)]
    assert snapshot.route(CHAT, "off") is None
    assert "finance.quote" in snapshot.disabled_operations


def test_a_model_is_called_by_its_id_or_at_one_provider() -> None:
    for slug in ("one", "two"):
        ModelFactory(provider=ProviderFactory(slug=slug), model_id="gpt-x")
    snapshot = load()
    assert names(snapshot, "gpt-x") == ["one/gpt-x", "two/gpt-x"]
    assert names(snapshot, "two/gpt-x") == ["two/gpt-x"]
    assert names(snapshot, "gpt-x", "embeddings") == []


def test_a_provider_is_not_taken_for_a_model_id_that_looks_like_it() -> None:
    """Resellers call their models `openai/gpt-x`; who asks for that provider gets it."""
    reseller = ModelFactory(provider=ProviderFactory(slug="reseller"), model_id="maker/gpt-x")
    ModelFactory(provider=ProviderFactory(slug="maker"), model_id="gpt-x")
    snapshot = load()
    assert names(snapshot, "maker/gpt-x") == ["maker/gpt-x"]
    assert names(snapshot, str(reseller)) == ["reseller/maker/gpt-x"]


def test_an_alias_comes_before_a_model_of_that_name() -> None:
    ModelFactory(provider=ProviderFactory(slug="lab"), model_id="fast")
    other = TargetFactory(route=RouteFactory(alias="fast"))
    assert names(load(), "fast") == [str(other.model)]


def test_a_data_operation_has_targets_without_models() -> None:
    route = RouteFactory(operation="finance.quote", alias="")
    provider = ProviderFactory(slug="rates")
    TargetFactory(route=route, model=None, provider=provider)
    snapshot = load()
    assert names(snapshot, "", "finance.quote") == ["rates"]
    found = snapshot.route("finance.quote", "")
    assert found and found.name == "finance.quote"


def test_how_many_may_be_asked_at_once_is_the_routes() -> None:
    for operation, fields in (("finance.quote", {"fan_out": 2}), ("finance.fx_rate", {})):
        route = RouteFactory(operation=operation, alias="", **fields)
        TargetFactory(route=route, model=None, provider=ProviderFactory())
    told = {name: load().routes[name, ""].fan_out for name in ("finance.quote", "finance.fx_rate")}
    assert told == {"finance.quote": 2, "finance.fx_rate": 5}


def test_a_models_columns_arrive() -> None:
    ModelFactory(
        provider=ProviderFactory(slug="lab"),
        model_id="m",
        context=1000,
        max_output=50,
        capabilities=["tools"],
    )
    found = load().route(CHAT, "m")
    assert found
    (target,) = found.targets
    assert target.model and (target.model.context, target.model.max_output) == (1000, 50)
    assert target.model.capabilities == {"tools"}


# Whose secret


def test_a_tenants_own_credential_serves_nobody_else() -> None:
    owner, other = TenantFactory(), TenantFactory()
    provider = ProviderFactory(slug="lab")
    ModelFactory(provider=provider, model_id="m")
    CredentialFactory(provider=provider, tenant=owner, secret="sk-owner")
    found = load().route(CHAT, "m")
    assert found
    target = found.targets[0]
    assert [upstream.secret for upstream in target.live(owner.pk)] == ["sk-owner"]
    assert target.live(other.pk) == target.live(None) == ()
    CredentialFactory(provider=provider, secret="sk-house")
    target = load().providers["lab"]
    assert [secrets_of(target, pk) for pk in (owner.pk, other.pk, None)] == [
        ["sk-owner"],
        ["sk-house"],
        ["sk-house"],
    ]


def secrets_of(provider: ProviderSpec, tenant_id: int | None) -> list[str]:
    return [each.secret for each in provider.credentials_of(tenant_id)]


def test_a_drained_credential_is_known_as_such_and_still_the_tenants_own() -> None:
    """Were it left out, the tenant would be served with the house's."""
    owner = TenantFactory()
    provider = ProviderFactory(slug="lab")
    CredentialFactory(provider=provider, secret="sk-house")
    own = CredentialFactory(provider=provider, tenant=owner, secret="sk-owner")
    models.Credential.objects.filter(pk=own.pk).update(drained_at=own.created_at)
    (found,) = load().providers["lab"].credentials_of(owner.pk)
    assert (found.public_id, found.drained) == (own.public_id, True)
    assert "sk-owner" not in repr(found)


def test_all_enabled_credentials_that_open_count_in_their_order() -> None:
    provider = ProviderFactory(slug="lab")
    CredentialFactory(provider=provider, secret="sk-off", enabled=False)
    broken = CredentialFactory(provider=provider, secret="sk-broken")
    models.Credential.objects.filter(pk=broken.pk).update(sealed="00000000:junk")
    CredentialFactory(provider=provider, secret="sk-good")
    CredentialFactory(provider=provider, secret="sk-later")
    found = load()
    assert secrets_of(found.providers["lab"], None) == ["sk-good", "sk-later"]
    assert found.left_out == (("credential", broken.public_id),)


def test_a_keyless_provider_needs_no_credential() -> None:
    provider = ProviderFactory(slug="lab", needs_credential=False)
    ModelFactory(provider=provider, model_id="m")
    found = load().route(CHAT, "m")
    assert found
    (upstream,) = found.targets[0].live(5)
    assert upstream.secret is None


def test_the_sandbox_plays_a_provider_without_its_secret() -> None:
    provider = ProviderFactory(slug="lab", base_url="https://api.example/v1/")
    CredentialFactory(provider=provider, secret="sk-real")
    ModelFactory(provider=provider, model_id="m", max_output=7)
    found = load().route(CHAT, "m")
    assert found
    upstream = found.targets[0].sandbox("http://127.0.0.1:9/sandbox")
    assert upstream.base_url == "http://127.0.0.1:9/sandbox/lab/v1"
    assert upstream.secret != "sk-real" and upstream.max_output == 7
    assert found.targets[0].sandbox("http://127.0.0.1:9/sandbox") is upstream


PAIR = '{"client_id": "i-1234", "client_secret": "s-1234"}'


def spotify() -> models.Provider:
    document = dict(read_document(FOLDER / "spotify.yaml").document)
    provider = ProviderFactory(slug="spotify", adapter="manifest", manifest=document)
    route = models.Route.objects.create(operation="music.search")
    models.Target.objects.create(route=route, provider=provider)
    return provider


def test_a_secret_of_several_parts_is_opened_part_by_part() -> None:
    CredentialFactory(provider=spotify(), secret=PAIR)
    found = load().route("music.search", "")
    assert found
    (upstream,) = found.targets[0].live(None)
    assert upstream.parts == {"client_id": "i-1234", "client_secret": "s-1234"}
    assert upstream.grant and upstream.grant.url == "https://accounts.spotify.com/api/token"
    assert "1234" not in repr(upstream)
    played = found.targets[0].sandbox("http://127.0.0.1:9")
    assert played.grant and played.grant.url == "http://127.0.0.1:9/spotify/api/token"
    assert set(played.parts) == {"client_id", "client_secret"}
    assert "1234" not in str(played.parts)
    assert found.targets[0].sandbox("http://127.0.0.1:9") is played


def test_a_tenants_own_secret_that_lacks_a_part_is_not_replaced_by_the_houses() -> None:
    provider, tenant = spotify(), TenantFactory()
    CredentialFactory(provider=provider, secret=PAIR)
    own = CredentialFactory(provider=provider, tenant=tenant, secret='{"client_id": "i-1234"}')
    with capture_logs() as lines:
        found = load().providers["spotify"].credentials_of(tenant.pk)
    assert [(each.public_id, each.drained) for each in found] == [(own.public_id, True)]
    assert [line["credential"] for line in lines if line["event"] == "credential_unusable"] == [
        own.public_id
    ]
    assert "i-1234" not in str(lines)


# Broken rows

BROKEN_PROVIDERS: list[dict[str, Any]] = [
    {"adapter": "unheard-of"},
    {"adapter": "manifest", "manifest": None},
    {"adapter": "manifest", "manifest": {"operations": "none"}},
    {"timeouts": {"connect_ms": "soon"}},
    {"timeouts": {"connect_ms": -5}},
    {"timeouts": 5},
    {"settings": ["a", "list"]},
    {"base_url": ""},
    {"base_url": "http://[::1"},
    {"base_url": "ftp://files.example"},
]


@pytest.mark.parametrize("fault", BROKEN_PROVIDERS, ids=str)
def test_a_broken_provider_takes_no_other_along(fault: dict[str, Any]) -> None:
    route = RouteFactory(alias="fast")
    good = TargetFactory(route=route)
    broken = TargetFactory(route=route)
    models.Provider.objects.filter(pk=broken.provider.pk).update(**fault)
    snapshot = load()
    assert names(snapshot, "fast") == [str(good.model)]
    assert broken.provider.slug not in snapshot.providers
    assert snapshot.left_out == (("provider", broken.provider.slug),)


@pytest.mark.parametrize("fault", [{"capabilities": 5}, {"capabilities": [["x"]]}], ids=str)
def test_a_broken_model_takes_no_other_along(fault: dict[str, Any]) -> None:
    route = RouteFactory(alias="fast")
    good, broken = TargetFactory(route=route), TargetFactory(route=route)
    models.Model.objects.filter(pk=broken.model.pk).update(**fault)
    assert names(load(), "fast") == [str(good.model)]


@pytest.mark.parametrize("timeouts", [{"total_ms": None}, {"idle_ms": 0}, [1], "x"], ids=str)
def test_a_broken_route_takes_no_other_along(timeouts: Any) -> None:
    good = TargetFactory(route=RouteFactory(alias="good"))
    TargetFactory(route=RouteFactory(alias="broken"))
    models.Route.objects.filter(alias="broken").update(timeouts=timeouts)
    snapshot = load()
    assert names(snapshot, "good") == [str(good.model)]
    assert snapshot.route(CHAT, "broken") is None


def test_a_providers_own_times_are_over_the_defaults() -> None:
    ProviderFactory(slug="lab", timeouts={"connect_ms": 250})
    times = load().providers["lab"].timeouts
    assert times.connect == 0.25 and times.total == Timeouts().total


def test_loading_costs_the_same_few_queries_however_many_rows(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(10):
        target = TargetFactory()
        CredentialFactory(provider=target.provider)
    with django_assert_max_num_queries(9):
        load()


def test_what_a_provider_may_be_asked() -> None:
    day = {"metric": "requests", "window": "day"}
    ProviderFactory(
        slug="own",
        rate_limits=[{"limit": 5, "per_seconds": 1}],
        quotas=[day | {"limit": 800}, day | {"limit": 9, "metric": "credits"}],
        time_zone="America/New_York",
    )
    ProviderFactory(slug="plain")
    HousePolicy(
        rate_limits=[
            {"scope": "provider", "limit": 90, "per_seconds": 60},
            {"scope": "ip", "limit": 1, "per_seconds": 1},
        ],
        quotas=[
            day | {"scope": "provider", "limit": 1000},
            day | {"scope": "global", "limit": 5},
        ],
    ).save()
    providers = load().providers
    own, plain = providers["own"], providers["plain"]
    assert [limit.limit for limit in own.rate_limits] == [90, 5]
    assert [(q.name, q.limit) for q in own.quotas] == [
        ("provider-requests-day", 800),
        ("provider-credits-day", 9),
    ]
    assert [(q.name, q.limit) for q in plain.quotas] == [("provider-requests-day", 1000)]
    assert [limit.name for limit in plain.rate_limits] == ["provider-minute"]
    assert (own.time_zone, plain.time_zone) == ("America/New_York", "UTC")
    since = plain.quotas_since
    HousePolicy.current().save()
    assert load().providers["plain"].quotas_since > since > 0


def test_a_policy_is_the_providers_over_the_houses(settings: Any) -> None:
    settings.RESILIENCE_PRESET = "development"
    settings.RESILIENCE = {"breaker": {"open_seconds": 9}, "retry": {"max_attempts": 4}}
    ProviderFactory(slug="plain")
    ProviderFactory(slug="own", breaker={"preset": "production"}, retry={"budget_percent": 7})
    plain, own = load().providers["plain"], load().providers["own"]
    assert (plain.breaker.target.consecutive_failures, plain.breaker.target.open_seconds) == (3, 9)
    assert plain.retry == RetryPolicy(max_attempts=4)
    assert (own.breaker.provider.consecutive_failures, own.breaker.provider.open_seconds) == (
        10,
        120,
    )
    assert own.retry == RetryPolicy(max_attempts=5, budget_percent=7)


@pytest.mark.parametrize(
    "broken", [[], None, "x", {"max_attempts": 0}, {"preset": "none"}], ids=repr
)
@pytest.mark.parametrize("part", ["breaker", "retry"])
def test_what_cannot_be_read_of_a_policy_is_left_out_and_the_rest_holds(
    broken: Any, part: str
) -> None:
    sound = {"breaker": {"preset": "production"}, "retry": {"max_attempts": 5}}
    ProviderFactory(slug="lab", **sound | {part: broken if broken is not None else "null"})
    lab = load().providers["lab"]
    failures, tries = lab.breaker.target.consecutive_failures, lab.retry.max_attempts
    assert (failures, tries) == ((5, 5) if part == "breaker" else (10, 5))
