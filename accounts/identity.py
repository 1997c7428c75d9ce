"""Who is calling: one `identify()` for both doors, the data path and DRF.

A caller shows an API key or an access token, in `Authorization: Bearer …` or `X-API-Key: …`;
every check runs whichever it was. What a key or user stands for is kept in a bounded memory
(`Identities`), filled on first use and emptied when the database says that keys changed, so a
call costs no query, and a revocation is in force everywhere within a second.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import jwt
from django.conf import settings

from lib.clock import Clock, SystemClock
from lib.problems import Forbidden, RateLimited, Unauthenticated
from tenants import keys
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope, compile_rate_limits
from tenants.quotas import Quota, QuotaScope, compile_quotas, merge_quotas

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ACCESS_TYP = "at+jwt"  # RFC 9068 §2.1: no other kind of token passes for an access token
MAX_REMEMBERED = 50_000
MAX_FAILURES = 30  # wrong credentials an address may show in FAILURE_SPAN seconds
FAILURE_SPAN = 60.0
WARM = "warm"  # the kind of a caller that keeps answers fresh, for nobody in particular
HOUSE = 0  # as a tenant's id: none, and so the bill is ours
_CALLERS = ("owner", "admin", "developer")  # the roles that may spend the tenant's money
_MARKS = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller. Ids are database ids; the public ones are for people."""

    kind: str  # "key", "user" or "warm"
    mode: Mode
    scopes: frozenset[str]
    tenant_id: int | None = None
    tenant: str = ""
    tenant_public_id: str = ""
    time_zone: str = "UTC"
    project_id: int | None = None
    key_id: int | None = None
    key_public_id: str = ""
    user_id: int | None = None
    user_public_id: str = ""
    role: str = ""
    is_staff: bool = False
    rate_limits: tuple[RateLimit, ...] = ()
    quotas: tuple[Quota, ...] = ()
    quotas_since: int = 0  # µs: all gateways count by these quotas from then on
    markup: int = 0  # the plan's, in hundredths of a per cent
    hit_price: int = 0  # the plan's: µUSD for a live call that the cache answers
    fan_out: int = 20  # the plan's: how many providers a call may ask at once
    expires_at: float | None = None
    allow_house_fallback: bool = False
    keep_warm: bool = False  # what it asks for often may be learned, and fetched again for it

    def may(self, scope: str) -> bool:
        """Whether a scope is held: itself, its family (`finance.*`), or `*`.

        `*` stands for the whole data path; rights such as `health:read` are held by name.
        """
        if scope in self.scopes:
            return True
        if ":" in scope:
            return f"{scope.partition(':')[0]}:*" in self.scopes
        return "*" in self.scopes or f"{scope.partition('.')[0]}.*" in self.scopes

    @property
    def client(self) -> str:
        """What a limit per client counts by."""
        return self.key_public_id or self.user_public_id


@dataclass(frozen=True, slots=True)
class Record:
    """What the database knows of one key or user, with all that every call checks anew."""

    identity: Identity
    digest: str = ""
    revoked: bool = False
    expires_at: float | None = None
    networks: tuple[Network, ...] = ()
    suspended: bool = False


class Identities:
    """Remembers records by key id or user id; `forget()` empties it.

    Addresses that keep showing wrong credentials are refused before any look-up.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._records: OrderedDict[str, tuple[int, Record | None]] = OrderedDict()
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._read: dict[bytes, KeyCredential] = {}
        self._writing = threading.Lock()  # any thread may look up, and any may forget
        self.generation = 0

    def forget(self) -> None:
        """Have every record looked up anew. Old ones stay where they are until then, so that a
        `check` already on its way never finds nothing and refuses a caller who is right."""
        with self._writing:
            self.generation += 1

    def read(self, authorization: bytes | None, api_key: bytes | None) -> Credential:
        """As `credential`, from the headers' own bytes. A key that was shown before is known
        by a fingerprint of them, which costs less than reading and hashing it again."""
        carriers = b"%d%d" % (authorization is None, api_key is None)
        shown = b"\n".join((carriers, authorization or b"", api_key or b""))
        mark = hashlib.blake2b(shown, digest_size=16, key=_MARKS).digest()
        known: Credential | None = self._read.get(mark)
        if known is None:
            known = credential(_text(authorization), _text(api_key))
            if isinstance(known, KeyCredential):
                if len(self._read) >= MAX_REMEMBERED:
                    self._read.clear()
                self._read[mark] = known
        return known

    def remembered(self, credential: Credential) -> bool:
        """Whether `check` needs no look-up: the data path then stays on its event loop."""
        known = self._records.get(credential.name)
        return known is not None and known[0] == self.generation

    def load(self, credential: Credential) -> None:
        """Look the credential's record up in the database (blocking).

        It counts as of the moment before the look-up: what changes meanwhile is read again.
        """
        generation = self.generation
        self._remember(credential.name, (generation, credential.find()))

    def check(self, credential: Credential, address: str) -> Identity:
        """The caller, or the Unauthenticated or Forbidden that says why not."""
        _, record = self._records.get(credential.name, (0, None))
        now = self._clock.now()
        proven = credential.proves(record or _NOBODY)  # an unknown key takes as long as a wrong one
        if record is None or not proven:
            self.note_failure(address)
            raise Unauthenticated
        if record.revoked:
            raise Unauthenticated("This API key was revoked. Use another one.", code="key_revoked")
        if record.expires_at is not None and record.expires_at <= now:
            raise Unauthenticated("This API key has expired. Use another one.", code="key_expired")
        if record.suspended:
            raise Forbidden(
                "The tenant is suspended. Ask the operator of this service.",
                code="tenant_suspended",
            )
        if record.networks and not _within(address, record.networks):
            raise Forbidden(
                "This key may not be used from your address. Add it to the key's allowed IPs.",
                code="ip_not_allowed",
            )
        return record.identity

    def proven(self, credential: Credential) -> Identity | None:
        """Whose it is, though it may be refused: revoked, say, or shown from elsewhere."""
        _, record = self._records.get(credential.name, (0, None))
        return None if record is None or not credential.proves(record) else record.identity

    def refuse_flood(self, address: str) -> None:
        """Raises RateLimited for an address that showed too many wrong credentials lately."""
        since, count = self._failures.get(address, (0.0, 0))
        left = since + FAILURE_SPAN - self._clock.monotonic()
        if count >= MAX_FAILURES and left > 0:
            raise RateLimited(
                "Too many wrong credentials from your address. Wait as long as Retry-After says.",
                retry_after=int(left) + 1,
                policy="bad-credentials",
                reset_seconds=int(left) + 1,
            )

    def note_failure(self, address: str) -> None:
        now = self._clock.monotonic()
        since, count = self._failures.get(address, (now, 0))
        if now - since >= FAILURE_SPAN:
            since, count = now, 0
        self._failures[address] = (since, count + 1)
        self._failures.move_to_end(address)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def _remember(self, name: str, known: tuple[int, Record | None]) -> None:
        with self._writing:
            generation, _ = self._records.get(name, known)
            if generation > known[0]:
                return  # a slow look-up must not undo a newer one
            self._records[name] = known
            while len(self._records) > MAX_REMEMBERED:
                self._records.popitem(last=False)


_NOBODY = Record(Identity(kind="", mode=Mode.TEST, scopes=frozenset()))


class Credential:
    """What a caller showed, well-formed; whether it holds, `Identities.check` says."""

    name: str

    def find(self) -> Record | None:
        raise NotImplementedError

    def proves(self, record: Record) -> bool:
        raise NotImplementedError


class KeyCredential(Credential):
    """An API key whose form and checksum are right."""

    def __init__(self, key: keys.ParsedKey) -> None:
        self.name = key.public_id
        self._shown = keys.digest(key.text, settings.KEY_PEPPER)

    def find(self) -> Record | None:
        return _key_record(self.name)

    def proves(self, record: Record) -> bool:
        return hmac.compare_digest(self._shown, record.digest)


class TokenCredential(Credential):
    """An access token whose signature, audience and expiry are right."""

    def __init__(self, claims: dict[str, Any]) -> None:
        self._user: str = claims["sub"]
        self._tenant: str = claims.get("tenant") or ""
        self._family: str = claims.get("family") or ""
        self.name = f"{self._user}@{self._tenant}#{self._family}"

    def find(self) -> Record | None:
        if self._family and _family_ended(self._family):
            return None
        return _user_record(self._user, self._tenant)

    def proves(self, record: Record) -> bool:
        return True


class WarmCredential(Credential):
    """The gateway itself, asking on behalf of a tenant, or of the house. No caller can show it."""

    def __init__(self, tenant_id: int) -> None:
        self.name = f"warm#{tenant_id}"
        self._tenant_id = tenant_id

    def find(self) -> Record | None:
        if self._tenant_id == HOUSE:
            identity = replace(of_house(Mode.LIVE), tenant_id=HOUSE)
            return Record(replace(identity, kind=WARM, scopes=frozenset({"*"})))
        return _warm_record(self._tenant_id)

    def proves(self, record: Record) -> bool:
        return True


class HouseCredential(Credential):
    """The house itself, for a call that staff make in the admin. No caller can show it."""

    def __init__(self, mode: Mode) -> None:
        self.name = f"house#{mode}"
        self._mode = mode

    def find(self) -> Record | None:
        return Record(replace(of_house(self._mode), tenant_id=HOUSE, scopes=frozenset({"*"})))

    def proves(self, record: Record) -> bool:
        return True


def credential(authorization: str | None, api_key: str | None) -> Credential:
    """The credential a request carries. Raises Unauthenticated; needs no look-up.

    One carrier a request: two could be checked by two rules.
    """
    if authorization is not None and api_key is not None:
        raise Unauthenticated("Send one credential: either Authorization or X-API-Key.")
    if api_key is not None:
        return _key_credential(api_key)
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    token = token.strip()
    return _key_credential(token) if token.startswith("pb_") else _token_credential(token)


def identify(
    identities: Identities, authorization: str | None, api_key: str | None, address: str
) -> Identity:
    """The caller, blocking where it must look up. Raises Unauthenticated, Forbidden, RateLimited.

    The data path takes the same steps, only with the look-up off its event loop.
    """
    identities.refuse_flood(address)
    try:
        shown = credential(authorization, api_key)
    except Unauthenticated:
        identities.note_failure(address)
        raise
    if not identities.remembered(shown):
        identities.load(shown)
    return identities.check(shown, address)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _key_credential(text: str) -> KeyCredential:
    parsed = keys.parse(text)
    if parsed is None:
        raise Unauthenticated
    return KeyCredential(parsed)


def _token_credential(token: str) -> TokenCredential:
    """RFC 8725: one algorithm bound to one key, audience and issuer required, own kind only."""
    rules: dict[str, Any] = settings.SIMPLE_JWT
    try:
        decoded = jwt.decode_complete(
            token,
            rules["SIGNING_KEY"],
            algorithms=[rules["ALGORITHM"]],
            audience=rules["AUDIENCE"],
            issuer=rules["ISSUER"],
            leeway=rules["LEEWAY"],
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )
    except jwt.PyJWTError:
        raise Unauthenticated from None
    claims = decoded["payload"]
    if decoded["header"].get("typ") != ACCESS_TYP or claims.get("token_type") != "access":
        raise Unauthenticated
    return TokenCredential(claims)


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks if network.version == ip.version)


def _key_record(public_id: str) -> Record | None:
    from tenants.models import ApiKey

    key = (
        ApiKey.objects.select_related("tenant__plan", "project").filter(public_id=public_id).first()
    )
    if key is None:
        return None
    identity = of_key(key)
    return Record(
        identity=identity,
        digest=key.digest,
        revoked=key.revoked_at is not None and key.revoked_at <= dt.datetime.now(dt.UTC),
        expires_at=_seconds(key.expires_at),
        networks=tuple(ipaddress.ip_network(network) for network in key.allowed_ips),
        suspended=key.tenant.status != key.tenant.Status.ACTIVE,
    )


def of_key(key: Any) -> Identity:
    """The caller that an API key's row stands for."""
    return Identity(
        kind="key",
        mode=Mode(key.mode),
        scopes=frozenset(key.scopes),
        key_id=key.pk,
        key_public_id=key.public_id,
        project_id=key.project_id,
        expires_at=_seconds(key.expires_at),
        **_tenant_fields(key.tenant, Mode(key.mode)),
        **_allowance(key.tenant, key),
    )


def of_tenant(tenant: Any, mode: Mode) -> Identity:
    """A tenant as a whole, with what is allowed to it: nobody can call as that."""
    fields = {**_tenant_fields(tenant, mode), **_allowance(tenant)}
    return Identity(kind="", mode=mode, scopes=frozenset(), **fields)


def of_house(mode: Mode) -> Identity:
    """All tenants together, with what the house allows them."""
    from tenants.models import HousePolicy, in_force_since

    house = HousePolicy.current()
    quotas = tuple(quota for quota in _house_quotas(house) if quota.scope is QuotaScope.GLOBAL)
    since = in_force_since(house)
    return Identity(kind="", mode=mode, scopes=frozenset(), quotas=quotas, quotas_since=since)


def _family_ended(family: str) -> bool:
    """Whether the sign-in that a token stems from was ended (signed out, copied, password)."""
    from accounts.models import RefreshFamily

    return not RefreshFamily.objects.filter(pk=family, revoked_at=None).exists()


def _user_record(public_id: str, tenant_public_id: str) -> Record | None:
    from accounts.models import User
    from tenants.models import Project

    user = User.objects.filter(public_id=public_id, is_active=True).first()
    if user is None:
        return None
    identity = Identity(
        kind="user",
        mode=Mode.LIVE,
        scopes=frozenset(),
        user_id=user.pk,
        user_public_id=user.public_id,
        is_staff=user.is_staff,
    )
    if not tenant_public_id:
        return Record(identity=identity)
    membership = (
        user.memberships.select_related("tenant__plan")
        .filter(tenant__public_id=tenant_public_id)
        .first()
    )
    if membership is None:
        return None
    tenant = membership.tenant
    identity = replace(
        identity,
        role=membership.role,
        scopes=frozenset({"*"}) if membership.role in _CALLERS else frozenset(),
        project_id=Project.objects.filter(tenant=tenant).values_list("pk", flat=True).first(),
        **_tenant_fields(tenant, Mode.LIVE),
        **_allowance(tenant),
    )
    return Record(identity=identity, suspended=tenant.status != tenant.Status.ACTIVE)


def _tenant_fields(tenant: Any, mode: Mode) -> dict[str, Any]:
    return {
        "tenant_id": tenant.pk,
        "tenant": tenant.slug,
        "tenant_public_id": tenant.public_id,
        "time_zone": tenant.time_zone,
        "markup": tenant.plan.markup,
        "hit_price": tenant.plan.cache_hit_microusd if mode is Mode.LIVE else 0,
        "fan_out": tenant.plan.fan_out,
        "allow_house_fallback": tenant.allow_house_fallback,
        "keep_warm": tenant.keep_warm,
    }


def _allowance(tenant: Any, key: Any = None) -> dict[str, Any]:
    """The rate limits of whoever says any, the nearest first; the quotas of all, the nearest
    instead of those about the same thing; and the house's besides."""
    from tenants.models import HousePolicy, in_force_since

    house = HousePolicy.current()
    holders = [tenant.plan, tenant] + ([] if key is None else [key])
    said = [row.rate_limits for row in reversed(holders) if row.rate_limits is not None]
    own = compile_quotas(tenant.plan.quotas)
    own = merge_quotas(own, compile_quotas(tenant.quotas))
    if key is not None:
        own = merge_quotas(own, compile_quotas(key.quotas, QuotaScope.KEY))
    limits = (*compile_rate_limits(house.rate_limits), *compile_rate_limits(said[0]))
    return {
        "rate_limits": tuple(
            dict.fromkeys(limit for limit in limits if limit.scope is not Scope.PROVIDER)
        ),
        "quotas": tuple(dict.fromkeys((*_house_quotas(house), *own))),
        "quotas_since": in_force_since(house, *holders),
    }


def _house_quotas(house: Any) -> list[Quota]:
    """All but the providers'. What all tenants share goes by the house's clock, not by theirs."""
    return [
        replace(quota, time_zone=house.time_zone) if quota.scope is QuotaScope.GLOBAL else quota
        for quota in compile_quotas(house.quotas)
        if quota.scope is not QuotaScope.PROVIDER
    ]


def _warm_record(tenant_id: int) -> Record | None:
    from tenants.models import Project, Tenant

    tenant = Tenant.objects.select_related("plan").filter(pk=tenant_id).first()
    if tenant is None:
        return None
    project = Project.objects.filter(tenant=tenant).values_list("pk", flat=True).first()
    identity = replace(
        of_tenant(tenant, Mode.LIVE), kind=WARM, scopes=frozenset({"*"}), project_id=project
    )
    return Record(identity, suspended=tenant.status != tenant.Status.ACTIVE)


def _seconds(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


IDENTITIES = Identities()
