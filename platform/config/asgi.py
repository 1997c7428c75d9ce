"""The whole system as one ASGI application: the data path by its paths, Django for the rest.

uvicorn config.asgi:application
"""

from __future__ import annotations

import gc

gc.disable()  # until all is imported: nothing of it is garbage, and looking takes its time

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings

from accounts.identities import IDENTITIES
from api.vitals import WORKER
from cache.cache import Cache
from config.draining import drain_first
from config.orphans import reap_if_alone
from config.outgoing import outgoing
from config.pages import Pages
from gateway.app import Gateway, Options
from gateway.cursors import Cursors
from gateway.desk import Desk
from gateway.exchange import Receive, Scope, Send
from gateway.paths import find
from gateway.probes import Probes
from gateway.shared_breakers import SharedBreakers
from lib.clock import SystemClock
from lib.ids import uuid7
from lib.threads import LookUps
from providers.breakers import Alone, Shared
from providers.operations import registry
from usage.admission import Admissions
from usage.counters.claims import Counters
from usage.counters.memory import MemoryCounters
from usage.counters.shared import SharedCounters
from usage.demand import quotas_of_provider
from usage.journals import journal_for
from usage.ledger import Ledger
from usage.truth import LedgerTruth


class Application:
    """Owns the gateway and its life: started and stopped with the server (ASGI lifespan)."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.probes = Probes(gateway.live, gateway.admissions.counters)
        self.pages = Pages()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, send = scope["path"], outgoing(scope, send)
            door = find(path)
            if door is not None:
                await self.gateway.handle(door, scope, receive, send)
            elif path in self.probes.paths:
                await self.probes(scope, receive, send)
            else:
                await self.pages(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        with await asyncio.to_thread(reap_if_alone, settings.DATABASES["default"]):
            await self.gateway.start()
            gc.freeze()  # what is loaded by now stays for ever: leave it out of every collection
            drain_first(self.probes.drain, settings.ENV.DRAIN_SECONDS)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.gateway.stop()
        await send({"type": "lifespan.shutdown.complete"})


def build(env: Any) -> Application:
    """The application for an environment (config/environment.py)."""
    registry()  # read now, and not while the first caller waits
    options = Options(
        sandbox_url=env.SANDBOX_URL.rstrip("/"),
        proxy_hops=env.TRUSTED_PROXY_HOPS,
        max_body_bytes=env.MAX_BODY_BYTES,
        max_upload_bytes=env.MAX_UPLOAD_BYTES,
        deadline_ms=env.DEADLINE_MS,
        max_in_flight=env.MAX_IN_FLIGHT,
        max_lag_ms=env.MAX_LAG_MS,
        warm_per_minute=env.CACHE_WARM_PER_MINUTE,
        warm_percent=env.CACHE_WARM_PERCENT,
    )
    ledger = Ledger(journal_for(settings.DATABASES["default"]))
    breakers: Shared = SharedBreakers(env.REDIS_URL) if env.REDIS_URL else Alone()
    gateway = Gateway(
        options,
        ledger,
        IDENTITIES,
        _admissions(env.REDIS_URL),
        shared_breakers=breakers,
        cache=_cache(env),
        cursors=Cursors(env.SECRET_KEY.encode()),
    )
    WORKER.breakers = gateway.dispatcher.breakers.states
    WORKER.breaker_figures = gateway.dispatcher.breakers.figures
    WORKER.left_out = lambda: gateway.live.snapshot.left_out
    desk = Desk(gateway)
    WORKER.explain, WORKER.ask = desk.explain, desk.ask
    WORKER.scores = gateway.scores.as_documents
    WORKER.cache = lambda: gateway.cache if gateway.runs else None
    WORKER.on_loop = gateway.on_loop
    WORKER.in_flight = lambda: gateway.observer.in_flight
    WORKER.counters = gateway.read_counters
    WORKER.provider_quotas = lambda now: [
        (provider.slug, claim)
        for provider in gateway.live.snapshot.providers.values()
        for claim in quotas_of_provider(provider, now)
    ]
    WORKER.counters_ready = lambda: gateway.admissions.counters.ready
    return Application(gateway)


def _cache(env: Any) -> Cache:
    return Cache(
        env.SECRET_KEY.encode(),
        url=env.REDIS_URL,
        memory_bytes=env.CACHE_MEMORY_BYTES,
        shared_bytes=env.CACHE_SHARED_BYTES,
    )


def _admissions(store_url: str) -> Admissions:
    """With a store, counters shared by all gateways; without, those of this only process."""
    clock, process = SystemClock(), uuid7()
    truth = LedgerTruth(process, LookUps(threads=2))
    counters: Counters = MemoryCounters(clock)
    if store_url:
        counters = SharedCounters(store_url, process, truth)
    return Admissions(counters, truth, clock, process)


application = build(settings.ENV)
gc.set_threshold(20_000, 20, 50)  # a call leaves hardly any cycles behind
gc.enable()
