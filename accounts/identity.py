"""Who a caller is, and what the database knows of one. No look-ups here: both doors, the data path
and DRF, get them from `Identities` (accounts/identities.py)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from tenants.keys import Mode
from tenants.limits import RateLimit
from tenants.quotas import Quota

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WARM = "warm"  # the kind of a caller that keeps answers fresh, for nobody in particular
HOUSE = 0  # as a tenant's id: none, and so the bill is ours


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
