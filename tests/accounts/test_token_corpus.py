"""RFC 8725: every token that is not exactly ours, of the right kind and in time, is refused."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings

from accounts import tokens
from accounts.credentials import ACCESS_TYP
from accounts.identities import Identities, identify
from lib.problems import Unauthenticated
from tests.factories import MembershipFactory

pytestmark = pytest.mark.django_db
SECRET = settings.SIMPLE_JWT["SIGNING_KEY"]


@pytest.fixture
def pair() -> tokens.Pair:
    member = MembershipFactory()
    return tokens.sign_in(user=member.user, tenant=member.tenant)


def check(token: str) -> Any:
    return identify(Identities(), f"Bearer {token}", None, "192.0.2.1")


def signed(claims: dict[str, Any], key: Any = SECRET, alg: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm=alg, headers={"typ": ACCESS_TYP, **headers})


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def none_alg(claims: dict[str, Any], alg: str) -> str:
    return f"{b64({'alg': alg, 'typ': ACCESS_TYP})}.{b64(claims)}."


def rs_key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem_as_hmac_secret(claims: dict[str, Any]) -> str:
    import hashlib
    import hmac

    pem = (
        rs_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    body = f"{b64({'alg': 'HS256', 'typ': ACCESS_TYP})}.{b64(claims)}"
    return f"{body}.{b64(hmac.digest(pem, body.encode(), hashlib.sha256))}"


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def tampered(claims: dict[str, Any]) -> str:
    head, _, signature = signed(claims).split(".")
    return f"{head}.{b64({**claims, 'sub': 'usr_someone_else'})}.{signature}"


PAST = int((dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)).timestamp())
BAD: dict[str, Callable[[dict[str, Any]], str]] = {
    "alg none": lambda c: none_alg(c, "none"),
    "alg None": lambda c: none_alg(c, "None"),
    "alg NONE": lambda c: none_alg(c, "NONE"),
    "alg empty": lambda c: none_alg(c, ""),
    "HS512": lambda c: signed(c, alg="HS512"),
    "RS256": lambda c: signed(c, rs_key(), "RS256"),
    "public key as secret": public_pem_as_hmac_secret,
    "other secret": lambda c: signed(c, "x" * 64),
    "tampered": tampered,
    "no signature": lambda c: signed(c).rpartition(".")[0] + ".",
    "two parts": lambda c: signed(c).rpartition(".")[0],
    "wrong aud": lambda c: signed({**c, "aud": "another"}),
    "no aud": lambda c: signed(without(c, "aud")),
    "wrong iss": lambda c: signed({**c, "iss": "another"}),
    "no iss": lambda c: signed(without(c, "iss")),
    "no sub": lambda c: signed(without(c, "sub")),
    "unknown sub": lambda c: signed({**c, "sub": "usr_nobody"}),
    "number as sub": lambda c: signed({**c, "sub": 1}),
    "expired": lambda c: signed({**c, "exp": PAST}),
    "no exp": lambda c: signed(without(c, "exp")),
    "exp as text": lambda c: signed({**c, "exp": "tomorrow"}),
    "not yet": lambda c: signed({**c, "nbf": PAST + 100_000}),
    "issued in the future": lambda c: signed({**c, "iat": PAST + 100_000}),
    "refresh kind": lambda c: signed({**c, "token_type": "refresh"}),
    "no kind": lambda c: signed(without(c, "token_type")),
    "typ JWT": lambda c: signed(c, typ="JWT"),
    "typ refresh": lambda c: signed(c, typ=tokens.REFRESH_TYP),
    "typ in capitals": lambda c: signed(c, typ="AT+JWT"),
    "unknown crit": lambda c: signed(c, crit=["exotic"], exotic=1),
    "other tenant": lambda c: signed({**c, "tenant": "ten_another"}),
    "ended family": lambda c: signed({**c, "family": "fam_another"}),
    "lone dots": lambda c: "..",
    "not base64": lambda c: "a.b.c",
    "JSON serialization": lambda c: json.dumps({"payload": b64(c), "signatures": []}),
    "huge": lambda c: "eyJ" + "A" * 100_000,
    "NUL": lambda c: signed(c) + "\0",
    "key prefix": lambda c: "pb_live_" + signed(c),
}


def test_the_real_one_is_accepted(pair: tokens.Pair) -> None:
    assert check(pair.access).kind == "user"
    assert check(signed(tokens.unverified_claims(pair.access))).kind == "user"


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str, pair: tokens.Pair) -> None:
    token = BAD[name](tokens.unverified_claims(pair.access))
    with pytest.raises(Unauthenticated) as refusal:
        check(token)
    assert refusal.value.detail == Unauthenticated.default_detail


def test_kinds_do_not_stand_in_for_one_another(pair: tokens.Pair) -> None:
    with pytest.raises(Unauthenticated):
        check(pair.refresh)
    with pytest.raises(Unauthenticated):
        tokens.refresh(pair.access)
    claims = tokens.unverified_claims(pair.refresh)
    for forged in (
        jwt.encode(claims, SECRET, algorithm="HS256"),
        jwt.encode({**claims, "aud": "x"}, SECRET, "HS256", headers={"typ": tokens.REFRESH_TYP}),
        jwt.encode(without(claims, "family"), SECRET, "HS256", headers={"typ": "rt+jwt"}),
        none_alg(claims, "none"),
        "",
        "a.b.c",
    ):
        with pytest.raises(Unauthenticated):
            tokens.refresh(forged)
    assert tokens.refresh(pair.refresh).access


def test_two_carriers_are_refused(pair: tokens.Pair) -> None:
    with pytest.raises(Unauthenticated):
        identify(Identities(), f"Bearer {pair.access}", "pb_live_x", "192.0.2.1")


def test_forgetting_never_refuses_who_is_right(pair: tokens.Pair) -> None:
    """A change that arrives between look-up and check must not cost a caller a 401."""
    identities = Identities()
    load = identities.load

    def load_then_forget(credential: Any) -> None:
        load(credential)
        identities.forget()

    identities.load = load_then_forget  # type: ignore[method-assign]
    assert identify(identities, f"Bearer {pair.access}", None, "192.0.2.1").kind == "user"
