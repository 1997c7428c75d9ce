"""Who a caller is: every check, for both kinds of credential in both carriers."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from accounts import identities as identities_module
from accounts import tokens
from accounts.credentials import Credential, WarmCredential, credential
from accounts.identities import FAILURE_SPAN, MAX_FAILURES, Identities, identify
from accounts.identity import HOUSE, WARM, Identity, Record
from accounts.models import Membership, Role
from lib.problems import Forbidden, Problem, RateLimited, Unauthenticated
from tenants import keys, services
from tenants.keys import Mode
from tenants.models import ApiKey, HousePolicy
from tests.clocks import ManualClock
from tests.factories import (
    ApiKeyFactory,
    MembershipFactory,
    PlanFactory,
    TenantFactory,
    UserFactory,
)

HOME = "192.0.2.1"
db = pytest.mark.django_db
Show = Callable[[str], tuple[str | None, str | None]]

bearer: Show = lambda text: (f"Bearer {text}", None)  # noqa: E731 - a table of carriers
x_api_key: Show = lambda text: (None, text)  # noqa: E731
carriers = pytest.mark.parametrize("show", [bearer, x_api_key], ids=["Authorization", "X-API-Key"])


def made(**fields: Any) -> tuple[ApiKey, str]:
    key = ApiKeyFactory(**fields)
    return key, key.text


def ask(show: Show, text: str, address: str = HOME, known: Identities | None = None) -> Identity:
    return identify(known or Identities(), *show(text), address)


def refusal(show: Show, text: str, address: str = HOME) -> Problem:
    with pytest.raises(Problem) as told:
        ask(show, text, address)
    return told.value


# API keys


@db
@pytest.mark.parametrize(("mode", "price"), [(Mode.LIVE, 7), (Mode.TEST, 0)])
def test_what_the_cache_answers_costs_nothing_in_test_mode(mode: Mode, price: int) -> None:
    tenant = TenantFactory(plan=PlanFactory(cache_hit_microusd=7))
    _, text = made(mode=mode, tenant=tenant)
    assert ask(bearer, text).hit_price == price


@db
@carriers
def test_a_good_key_is_its_tenants(show: Show) -> None:
    key, text = made(mode=Mode.TEST, scopes=["finance.*", "health:read"])
    identity = ask(show, text)
    assert (identity.kind, identity.mode) == ("key", Mode.TEST)
    assert (identity.tenant_id, identity.project_id) == (key.tenant_id, key.project_id)
    assert (identity.tenant, identity.tenant_public_id) == (key.tenant.slug, key.tenant.public_id)
    assert identity.client == key.public_id and identity.key_id == key.pk
    assert identity.scopes == {"finance.*", "health:read"}
    assert not identity.is_staff and identity.user_id is None


@db
@carriers
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"revoked_at": dt.timedelta(seconds=-1)}, 401, "key_revoked"),
        ({"expires_at": dt.timedelta(seconds=-1)}, 401, "key_expired"),
        ({"revoked_at": dt.timedelta(hours=1)}, 0, ""),
        ({"expires_at": dt.timedelta(hours=1)}, 0, ""),
    ],
    ids=["revoked", "expired", "revoked later", "expires later"],
)
def test_the_keys_own_life(
    show: Show, change: dict[str, dt.timedelta], status: int, code: str
) -> None:
    key, text = made()
    ApiKey.objects.filter(pk=key.pk).update(
        **{name: timezone.now() + delta for name, delta in change.items()}
    )
    if not status:
        assert ask(show, text).key_id == key.pk
        return
    problem = refusal(show, text)
    assert (problem.status, problem.code) == (status, code)


@db
@carriers
def test_a_suspended_tenants_key_is_refused_and_a_resumed_ones_is_not(show: Show) -> None:
    key, text = made()
    services.suspend_tenant(tenant=key.tenant)
    problem = refusal(show, text)
    assert (problem.status, problem.code) == (403, "tenant_suspended")
    services.resume_tenant(tenant=key.tenant)
    assert ask(show, text).key_id == key.pk


@db
@carriers
@pytest.mark.parametrize(
    ("allowed", "address", "passes"),
    [
        ([], "203.0.113.9", True),
        (["192.0.2.0/24"], "192.0.2.255", True),
        (["192.0.2.0/24"], "192.0.3.0", False),
        (["192.0.2.1"], "192.0.2.1", True),
        (["192.0.2.1"], "::ffff:192.0.2.1", True),
        (["192.0.2.1"], "::ffff:c000:202", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:DB8::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:db8::/32"], "192.0.2.1", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::/0"], "192.0.2.1", False),
        (["10.0.0.0/8", "2001:db8::1"], "2001:db8::1", True),
        (["192.0.2.0/24"], "", False),
        (["0.0.0.0/0"], "not an address", False),
    ],
)
def test_the_allow_list(show: Show, allowed: list[str], address: str, passes: bool) -> None:
    key, text = made(allowed_ips=allowed)
    if passes:
        assert ask(show, text, address).key_id == key.pk
    else:
        problem = refusal(show, text, address)
        assert (problem.status, problem.code) == (403, "ip_not_allowed")


@db
@carriers
def test_a_key_that_was_never_made_is_refused_without_saying_so(show: Show) -> None:
    stranger = refusal(show, keys.generate(Mode.LIVE).text)
    junk = refusal(show, "pb_live_junk")
    assert stranger.code == junk.code == "unauthenticated"
    assert stranger.detail == junk.detail
    assert stranger.headers["WWW-Authenticate"] == "Bearer"


@db
@carriers
def test_knowing_the_public_id_is_not_knowing_the_key(show: Show) -> None:
    """A well-formed key with a real id and a secret of one's own; also of the other mode."""
    key, text = made(mode=Mode.TEST)
    services.revoke_key(key=key)
    for mode, secret in (("test", "A" * 30), ("live", text[21:51])):
        body = f"pb_{mode}_{key.public_id}_{secret}"
        problem = refusal(show, body + keys._checksum(body))
        assert problem.code == "unauthenticated"


@db
def test_another_pepper_makes_every_key_worthless(settings: Any) -> None:
    _, text = made()
    settings.KEY_PEPPER = b"another pepper of thirty-two byte"
    assert refusal(bearer, text).code == "unauthenticated"


@db
@pytest.mark.parametrize("level", ["key", "tenant", "plan"])
def test_the_nearest_rate_limits_count(level: str) -> None:
    key, text = made()
    places = {"key": key, "tenant": key.tenant, "plan": key.tenant.plan}
    for number, (name, row) in enumerate(places.items(), 1):
        wanted = [{"scope": "key", "limit": number, "per_seconds": 60}]
        row.rate_limits = wanted if list(places).index(name) >= list(places).index(level) else None
        row.save()
    (limit,) = ask(bearer, text).rate_limits
    assert limit.limit == list(places).index(level) + 1
    key.rate_limits = []
    key.save()
    assert ask(bearer, text).rate_limits == ()


def quota(scope: str, limit: int, **fields: Any) -> dict[str, Any]:
    return {"scope": scope, "metric": "requests", "window": "day", "limit": limit, **fields}


@db
def test_quotas_add_up_and_the_nearest_about_the_same_thing_counts() -> None:
    key, text = made()
    tenant, plan = key.tenant, key.tenant.plan
    plan.quotas = [quota("tenant", 1), quota("key", 2), quota("project", 3)]
    tenant.quotas = [quota("tenant", 4), quota("tenant", 5, window="month")]
    key.quotas = [{"metric": "requests", "window": "day", "limit": 6}]
    for row in (plan, tenant, key):
        row.full_clean()
        row.save()
    told = {(q.name, q.limit) for q in ask(bearer, text).quotas}
    assert told == {
        ("project-requests-day", 3),
        ("tenant-requests-day", 4),
        ("tenant-requests-month", 5),
        ("key-requests-day", 6),
    }
    tenant.quotas = key.quotas = []
    tenant.save()
    key.save()
    assert [q.limit for q in ask(bearer, text).quotas] == [1, 2, 3]


@db
def test_the_houses_policy_holds_besides() -> None:
    key, text = made()
    plan, per_address = key.tenant.plan, {"scope": "ip", "limit": 7, "per_seconds": 1}
    plan.rate_limits, plan.quotas = [], [quota("tenant", 1)]
    plan.save()
    HousePolicy(
        rate_limits=[per_address, per_address | {"scope": "provider"}],
        quotas=[quota("global", 100), quota("tenant", 50), quota("provider", 9)],
        time_zone="Asia/Tokyo",
    ).save()
    identity = ask(bearer, text)
    assert [limit.name for limit in identity.rate_limits] == ["ip-second"]
    told = [(q.scope.value, q.limit, q.time_zone) for q in identity.quotas]
    assert told == [("global", 100, "Asia/Tokyo"), ("tenant", 50, ""), ("tenant", 1, "")]
    _, token = signed_in()
    member = ask(bearer, token)
    assert [q.limit for q in member.quotas] == [100, 50, 1]
    assert [limit.name for limit in member.rate_limits] == ["ip-second"]


@db
def test_since_when_quotas_are_counted() -> None:
    """Whoever may change what is counted moves it, and what changes nothing of that does not."""
    key, text = made()
    before = ask(bearer, text).quotas_since
    assert before > key.created_at.timestamp() * 1_000_000
    ApiKey.objects.update_quietly(last_used_at=timezone.now())
    key.save(update_fields=["revoked_at"])
    assert ask(bearer, text).quotas_since == before
    for row in (key, key.tenant, key.tenant.plan, HousePolicy()):
        row.save()
        after = ask(bearer, text).quotas_since
        assert after > before
        before = after


# Carriers


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (None, None),
        ("", None),
        (None, ""),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer   ", None),
        ("Basic dXNlcjpwYXNz", None),
        ("Token x", None),
        ("bearerx y", None),
        (None, "Bearer x"),
        (None, " "),
    ],
)
def test_no_credential_is_none(authorization: str | None, api_key: str | None) -> None:
    with pytest.raises(Unauthenticated):
        credential(authorization, api_key)


@db
def test_two_carriers_are_refused_even_when_both_are_right() -> None:
    _, text = made()
    for authorization, api_key in ((f"Bearer {text}", text), (f"Bearer {text}", ""), ("", text)):
        with pytest.raises(Unauthenticated, match="one credential"):
            identify(Identities(), authorization, api_key, HOME)


@db
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_schemes_case_does_not_matter(scheme: str) -> None:
    key, text = made()
    assert identify(Identities(), f"{scheme}  {text} ", None, HOME).key_id == key.pk


@db
def test_an_access_token_goes_in_authorization_only() -> None:
    member = MembershipFactory()
    pair = tokens.sign_in(user=member.user, tenant=member.tenant)
    assert ask(bearer, pair.access).kind == "user"
    assert refusal(x_api_key, pair.access).code == "unauthenticated"


# Access tokens


def signed_in(role: str = Role.DEVELOPER) -> tuple[Membership, str]:
    member = MembershipFactory(role=role)
    return member, tokens.sign_in(user=member.user, tenant=member.tenant).access


@db
@pytest.mark.parametrize("role", Role.values)
def test_a_members_token_carries_their_role(role: str) -> None:
    member, token = signed_in(role)
    identity = ask(bearer, token)
    assert (identity.kind, identity.role, identity.mode) == ("user", role, Mode.LIVE)
    assert (identity.user_id, identity.tenant_id) == (member.user_id, member.tenant_id)
    assert identity.client == member.user.public_id
    may_spend = role not in (Role.BILLING, Role.VIEWER)
    assert identity.may("chat.completions") == may_spend
    assert not identity.may("health:read")


@db
def test_a_token_without_a_tenant_has_no_data_path() -> None:
    user = UserFactory(is_staff=True)
    identity = ask(bearer, tokens.sign_in(user=user, tenant=None).access)
    assert identity.is_staff and identity.tenant_id is None and not identity.scopes


def _deactivate(member: Membership) -> None:
    member.user.is_active = False
    member.user.save()


ENDS: dict[str, tuple[Callable[[Membership], object], str]] = {
    "user deactivated": (_deactivate, "unauthenticated"),
    "user deleted": (lambda member: member.user.delete(), "unauthenticated"),
    "membership ended": (lambda member: member.delete(), "unauthenticated"),
    "tenant deleted": (lambda member: member.tenant.delete(), "unauthenticated"),
    "signed out": (
        lambda member: tokens.end_family(member.user.refresh_families.get().pk),
        "unauthenticated",
    ),
    "tenant suspended": (
        lambda member: services.suspend_tenant(tenant=member.tenant),
        "tenant_suspended",
    ),
}


@db
@pytest.mark.parametrize("name", ENDS)
def test_a_valid_token_of_someone_who_may_no_longer(name: str) -> None:
    end, code = ENDS[name]
    member, token = signed_in()
    end(member)
    assert refusal(bearer, token).code == code


def part(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize("depth", [100, 5_000, 12_000])
@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_a_deeply_nested_token_is_only_a_wrong_one(depth: int, bracket: bytes) -> None:
    for token in (f"{part(bracket * depth)}.e30.x", f"e30.{part(bracket * depth)}.x"):
        with pytest.raises(Unauthenticated):
            credential(f"Bearer {token}", None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
header_fields = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "cty", "zip"]),
    json_values | st.sampled_from(["HS256", "none", "RS256", "at+jwt"]),
)


@given(header_fields | json_values, json_values, st.binary(max_size=40))
def test_no_header_makes_a_forged_token_anything_but_wrong(
    header: Any, payload: Any, signature: bytes
) -> None:
    with pytest.raises(Unauthenticated):
        credential(f"Bearer {part(header)}.{part(payload)}.{part(signature)}", None)


@given(
    st.text(max_size=200), st.sampled_from(["Bearer ", "bearer\t", "", "Bearer pb_", "Bearer ."])
)
def test_any_header_text_is_a_credential_or_a_401(text: str, scheme: str) -> None:
    for carriers in ((scheme + text, None), (None, text), (scheme + text, text)):
        with pytest.raises(Unauthenticated):
            credential(*carriers)


# Scopes


@pytest.mark.parametrize(
    ("held", "asked", "may"),
    [
        ({"*"}, "chat.completions", True),
        ({"*"}, "health:read", False),
        ({"*"}, "manage:keys", False),
        ({"finance.*"}, "finance.quote", True),
        ({"finance.*"}, "financex.quote", False),
        ({"finance.*"}, "chat.completions", False),
        ({"finance.quote"}, "finance.quote", True),
        ({"finance.quote"}, "finance.fx_rate", False),
        ({"manage:*"}, "manage:keys", True),
        ({"manage:keys"}, "manage:members", False),
        ({"manage:*"}, "chat.completions", False),
        (set(), "chat.completions", False),
        ({"finance.*"}, "finance", True),
    ],
)
def test_what_a_scope_allows(held: set[str], asked: str, may: bool) -> None:
    assert Identity("key", Mode.LIVE, frozenset(held)).may(asked) is may


# What is remembered


@db
@carriers
def test_a_known_caller_costs_no_query(
    show: Show, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    _, text = made()
    known = Identities()
    with django_assert_num_queries(2):
        ask(show, text, known=known)
    with django_assert_num_queries(0):
        for _ in range(5):
            ask(show, text, known=known)


@db
def test_a_change_counts_from_the_next_forgetting_on() -> None:
    key, text = made()
    known = Identities()
    ask(bearer, text, known=known)
    services.revoke_key(key=key)
    known.forget()
    with pytest.raises(Unauthenticated) as told:
        ask(bearer, text, known=known)
    assert told.value.code == "key_revoked"


@db
def test_what_is_remembered_expires_all_the_same() -> None:
    clock = ManualClock(now=timezone.now().timestamp())
    key, text = made(expires_at=timezone.now() + dt.timedelta(seconds=30))
    known = Identities(clock)
    assert ask(bearer, text, known=known).expires_at == key.expires_at.timestamp()
    clock.advance(29)
    ask(bearer, text, known=known)
    clock.advance(2)
    with pytest.raises(Unauthenticated) as told:
        ask(bearer, text, known=known)
    assert told.value.code == "key_expired"


@db
def test_a_flood_of_wrong_keys_ends_in_no_queries(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    clock = ManualClock()
    known = Identities(clock)
    key, text = made()
    for _ in range(MAX_FAILURES):
        with pytest.raises(Unauthenticated):
            ask(bearer, keys.generate(Mode.LIVE).text, known=known)
    with django_assert_num_queries(0):
        for _ in range(20):
            with pytest.raises(RateLimited) as told:
                ask(bearer, keys.generate(Mode.LIVE).text, known=known)
    assert told.value.retry_after == told.value.extra["reset_seconds"]
    assert ask(bearer, text, "192.0.2.2", known).key_id == key.pk
    assert told.value.retry_after is not None
    clock.advance(told.value.retry_after)
    assert ask(bearer, text, HOME, known).key_id == key.pk


def test_junk_counts_towards_the_flood_without_a_single_query() -> None:
    known = Identities(ManualClock())
    for _ in range(MAX_FAILURES):
        with pytest.raises(Unauthenticated):
            ask(bearer, "pb_live_junk", known=known)
    with pytest.raises(RateLimited):
        ask(bearer, "pb_live_junk", known=known)


def test_a_few_wrong_keys_now_and_then_are_forgiven() -> None:
    clock = ManualClock()
    known = Identities(clock)
    for _ in range(4):
        for _ in range(MAX_FAILURES - 1):
            known.note_failure(HOME)
        known.refuse_flood(HOME)
        clock.advance(FAILURE_SPAN)


@db
def test_right_credentials_that_are_refused_are_no_flood() -> None:
    key, text = made()
    services.revoke_key(key=key)
    known = Identities(ManualClock())
    for _ in range(MAX_FAILURES + 5):
        with pytest.raises(Unauthenticated) as told:
            ask(bearer, text, known=known)
        assert told.value.code == "key_revoked"


class Scripted(Credential):
    """A credential whose look-up says what it is told, when it is told."""

    def __init__(self, name: str, record: Record | None = None) -> None:
        self.name = name
        self.record = record
        self.before_answering: Callable[[], object] = lambda: None

    def find(self) -> Record | None:
        found = self.record
        self.before_answering()
        return found

    def proves(self, record: Record) -> bool:
        return True


GOOD = Record(Identity("key", Mode.LIVE, frozenset({"*"})))
REVOKED = Record(Identity("key", Mode.LIVE, frozenset({"*"})), revoked=True)


def test_memory_is_bounded_whatever_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities_module, "MAX_REMEMBERED", 100)
    known = Identities()
    for number in range(1000):
        known.load(Scripted(f"key-{number}", GOOD if number % 2 else None))
        known.note_failure(f"10.0.{number // 256}.{number % 256}")
    assert len(known._records) == len(known._failures) == 100
    assert known.remembered(Scripted("key-999")) and not known.remembered(Scripted("key-0"))


def test_who_keeps_failing_is_not_forgotten_for_new_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identities_module, "MAX_REMEMBERED", 50)
    known = Identities(ManualClock())
    for number in range(MAX_FAILURES * 40):
        known.note_failure(f"10.0.{number // 256}.{number % 256}")
        if number % 40 == 0:
            known.note_failure(HOME)
    with pytest.raises(RateLimited):
        known.refuse_flood(HOME)


def test_a_record_looked_up_before_a_change_is_looked_up_again() -> None:
    known, shown = Identities(), Scripted("k", GOOD)
    shown.before_answering = known.forget
    known.load(shown)
    assert not known.remembered(shown)
    assert known.check(shown, HOME) is GOOD.identity


def test_a_slow_look_up_does_not_undo_a_newer_one() -> None:
    """Begun before the revocation, it ends after another has read the revoked row."""
    known, slow, quick = Identities(), Scripted("k", GOOD), Scripted("k", REVOKED)

    def meanwhile() -> None:
        known.forget()
        known.load(quick)

    slow.before_answering = meanwhile
    known.load(slow)
    assert known.remembered(quick)
    with pytest.raises(Unauthenticated) as told:
        known.check(quick, HOME)
    assert told.value.code == "key_revoked"


def test_races_of_looking_up_and_forgetting_never_bring_a_revoked_key_back() -> None:
    known = Identities()
    state: dict[str, Record] = {"row": GOOD}
    resurrected: list[int] = []

    class Live(Scripted):
        def find(self) -> Record | None:
            return state["row"]

    shown, stop = Live("k"), threading.Event()

    def look_up() -> None:
        while not stop.is_set():
            known.load(shown)

    def turn(number: int) -> None:
        state["row"] = REVOKED
        known.forget()
        while not known.remembered(shown):
            known.load(shown)
        for _ in range(50):
            if known.remembered(shown):
                try:
                    known.check(shown, HOME)
                    resurrected.append(number)
                except Unauthenticated:
                    pass
        state["row"] = GOOD
        known.forget()

    threads = [threading.Thread(target=look_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        turn(number)
    stop.set()
    for thread in threads:
        thread.join()
    assert resurrected == []


def test_forgetting_from_many_threads_is_never_lost() -> None:
    known = Identities()
    seen: set[int] = set()

    def forget() -> None:
        for _ in range(500):
            before = known.generation
            known.forget()
            assert known.generation > before
            seen.add(known.generation)

    threads = [threading.Thread(target=forget) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert known.generation == 2000


@db
def test_an_unknown_key_costs_the_same_work_as_a_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests: list[str] = []
    real = keys.digest
    monkeypatch.setattr(
        keys, "digest", lambda text, pepper: digests.append(text) or real(text, pepper)
    )
    refusal(bearer, keys.generate(Mode.LIVE).text)
    assert len(digests) == 1


@db
def test_the_two_kinds_are_remembered_apart() -> None:
    """A token names users and tenants; no choice of those may stand for a key."""
    tenant = TenantFactory()
    key, text = made(tenant=tenant)
    member = MembershipFactory(tenant=tenant)
    known = Identities()
    assert ask(bearer, text, known=known).kind == "key"
    token = tokens.sign_in(user=member.user, tenant=tenant).access
    assert ask(bearer, token, known=known).kind == "user"
    names = {credential(f"Bearer {shown}", None).name for shown in (text, token)}
    assert names == set(known._records) and key.public_id in names


@db
def test_a_forbidden_caller_is_told_apart_from_a_wrong_one() -> None:
    _, text = made(allowed_ips=["10.0.0.0/8"])
    assert isinstance(refusal(bearer, text), Forbidden)


@db
def test_the_gateway_asks_as_a_tenant_by_its_limits_and_with_no_key() -> None:
    tenant = TenantFactory(rate_limits=[{"scope": "tenant", "limit": 5, "per_seconds": 60}])
    services.create_project(tenant=tenant, slug="main")
    asks, identities = WarmCredential(tenant.pk), Identities()
    identities.load(asks)
    warm = identities.check(asks, "")
    assert (warm.kind, warm.mode, warm.tenant_id) == (WARM, Mode.LIVE, tenant.pk)
    assert warm.key_id is None and warm.user_id is None and warm.client == ""
    assert warm.may("chat.completions") and not warm.may("health:read")
    assert 5 in [limit.limit for limit in warm.rate_limits]
    tenant.status = tenant.Status.SUSPENDED
    tenant.save()
    identities.load(asks)
    with pytest.raises(Forbidden):
        identities.check(asks, "")


@db
def test_as_the_house_it_is_no_tenant() -> None:
    HousePolicy(quotas=[{"scope": "global", "metric": "cost", "window": "day", "limit": 9}]).save()
    TenantFactory()
    house, gone, identities = WarmCredential(HOUSE), WarmCredential(10**9), Identities()
    identities.load(house)
    identity = identities.check(house, "")
    assert (identity.tenant_id, identity.project_id, identity.markup) == (HOUSE, None, 0)
    assert [quota.limit for quota in identity.quotas] == [9]
    identities.load(gone)
    with pytest.raises(Unauthenticated):
        identities.check(gone, "")


@db
def test_a_plan_says_how_many_providers_a_call_may_ask_at_once() -> None:
    tenant = TenantFactory(plan=PlanFactory(fan_out=3))
    _, text = made(project__tenant=tenant)
    assert ask(x_api_key, text).fan_out == 3
