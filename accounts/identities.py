"""Who is calling: one `identify()` for both doors, the data path and DRF.

A caller shows an API key or an access token, in `Authorization: Bearer …` or `X-API-Key: …`;
every check runs whichever it was. What a key or user stands for is kept in a bounded memory
(`Identities`), filled on first use and emptied when the database says that keys changed, so a
call costs no query, and a revocation is in force everywhere within a second.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import threading
from collections import OrderedDict

from accounts.credentials import Credential, KeyCredential, credential
from accounts.identity import Identity, Network, Record
from lib.clock import Clock, SystemClock
from lib.problems import Forbidden, RateLimited, Unauthenticated
from tenants.keys import Mode

MAX_REMEMBERED = 50_000
MAX_FAILURES = 30  # wrong credentials an address may show in FAILURE_SPAN seconds
FAILURE_SPAN = 60.0
_MARKS = secrets.token_bytes(16)
_NOBODY = Record(Identity(kind="", mode=Mode.TEST, scopes=frozenset()))


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


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks if network.version == ip.version)


IDENTITIES = Identities()
