"""Who is calling: what a call shows, from memory or looked up."""

from __future__ import annotations

from dataclasses import dataclass

from accounts.credentials import Credential
from accounts.identities import Identities
from accounts.identity import Identity
from gateway.exchange import Exchange
from gateway.live import Live
from gateway.warming import SHOWN
from lib.problems import Problem, Unauthenticated

LOOK_UPS = 3  # a record that is forgotten while it is being looked up is looked up again


@dataclass(frozen=True, slots=True)
class Identifying:
    """One worker's door."""

    identities: Identities
    live: Live

    async def identify(self, exchange: Exchange) -> Identity:
        """The caller. Raises Unauthenticated, Forbidden, RateLimited or Unavailable."""
        identities, address = self.identities, exchange.address
        shown: Credential | None = exchange.scope.get(SHOWN)
        if shown is None:
            shown = self._shown(exchange, address)
        for _ in range(LOOK_UPS):
            if identities.remembered(shown):
                break
            await self.live.look_up(shown)
        try:
            exchange.caller = identity = identities.check(shown, address)
        except Problem:
            exchange.caller = identities.proven(shown)
            raise
        if identity.tenant_id is None:
            raise Unauthenticated("This token is for no tenant. Sign in with one, or use a key.")
        return identity

    def _shown(self, exchange: Exchange, address: str) -> Credential:
        """What the caller shows. Raises Unauthenticated or RateLimited."""
        self.identities.refuse_flood(address)
        try:
            return self.identities.read(
                exchange.header_bytes(b"authorization"), exchange.header_bytes(b"x-api-key")
            )
        except Unauthenticated:
            self.identities.note_failure(address)
            raise
