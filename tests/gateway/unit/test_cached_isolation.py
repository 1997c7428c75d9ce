"""Two tenants, thousands of mixed calls through the whole gateway, a canary in every answer: each
hears what it asked for, and never what another was told; what is one question is asked once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from providers.call import UpstreamRequest
from providers.snapshot import TargetSpec
from tenants.keys import Mode
from tests.cache.test_keys import plain, spelled
from tests.chaos.reporting import FIGURES
from tests.gateway.unit.rig import (
    CHAT,
    COUNT,
    DONE,
    Client,
    Reply,
    Rig,
    chat,
    data_provider,
    data_target,
    event,
    held,
    route,
    stream,
    target,
    whole,
)
from tests.loops import on_loop

FX, GEO, WEATHER = "finance.fx_rate", "geo.geocode", "weather.current"
KEPT = {"ttl": 300}
AT_ONCE = 20
OWNER = 2  # of a credential of its own, for exchange rates
# What looks alike and is not the same question.
TEXTS = [
    "Åre",
    "A\u030are",
    "åre",
    "Are",
    "Ａre",
    "Are ",
    "Are\u200b",
    "1",
    '{"q":"Are"}',
    "Are&x=1",
]
# What says nothing of the question.
UNKEYED = (
    "User-Agent", "Accept", "Accept-Language", "Cookie", "Origin", "Referer", "X-Forwarded-For",
    "X-Request-Id", "X-Client-Request-Id", "Traceparent", "X-Tenant", "X-Patchbay-Cache-Tags",
    "X-Patchbay-Deadline-Ms", "If-Modified-Since", "Pragma", "Cache-Control", "Host", "Range",
)  # fmt: skip


class Asked(NamedTuple):
    """Who, and what: `question` is all that an answer may depend on besides."""

    tenant: int
    mode: Mode
    operation: str
    question: Any

    @property
    def whose(self) -> Any:
        """All who may have its answer."""
        if self.operation == WEATHER and self.mode is Mode.LIVE:
            return None
        if self.operation == FX and self.mode is Mode.LIVE and self.tenant != OWNER:
            return None
        return self.tenant

    @property
    def key(self) -> Any:
        return self.whose, self.mode, self.operation, self.question


ASKING: ContextVar[Asked] = ContextVar("asking")


@dataclass
class Provider:
    """Each answer is a number that no other has, by which one knows for whom it was made."""

    made: dict[int, Asked] = field(default_factory=dict)

    def __call__(self, request: UpstreamRequest) -> Reply:
        asked = ASKING.get()
        number = len(self.made) + 1
        self.made[number] = asked
        if asked.operation == FX:
            rates = {"USD": number, "SEK": number}
            return whole({"base": "EUR", "date": "2027-01-15", "rates": rates})
        if asked.operation == GEO:
            place = {"name": f"canary {number}", "latitude": 59.9, "longitude": 10.7}
            return whole({"results": [place]})
        if asked.operation == WEATHER:
            now = {"temperature_2m": 1, "time": "2027-01-15T08:00", "weather_code": 0}
            return whole({"current": {**now, "cloud_cover": 1, "pressure_msl": 900 + number / 1e5}})
        if orjson.loads(request.body or b"{}").get("stream"):
            return stream(event(f"canary {number}"), event(), event(usage=COUNT), DONE)
        return chat(f"canary {number}")


def heard(client: Client, operation: str) -> int:
    """The number in an answer."""
    if operation == "chat.completions":
        if client.headers["content-type"].startswith("text/event-stream"):
            return int(client.text.removeprefix("canary "))
        return int(client.json["choices"][0]["message"]["content"].removeprefix("canary "))
    data = client.json["data"]
    if operation == GEO:
        return int(data[0]["name"].removeprefix("canary "))
    if operation == FX:
        return int(float(data["rate"]))
    return round((data["pressure_hpa"] - 900) * 1e5)


def served(rig: Rig) -> Provider:
    own = replace(
        data_provider("frankfurter"),
        needs_credential=True,
        secrets={OWNER: held("sk-own"), None: held("sk-house")},
    )
    rig.serve(
        route(target("lab"), cache=KEPT),
        route(TargetSpec(own), operation=FX, name=FX, cache=KEPT),
        route(data_target("open-meteo-geocoding"), operation=GEO, name=GEO, cache=KEPT),
        route(data_target("open-meteo"), operation=WEATHER, name=WEATHER, cache=KEPT),
    )
    rig.upstreams.script = provider = Provider()
    return provider


def a_chat(chance: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """The question, and the body that asks it."""
    message = {"role": "user", "content": chance.choice(TEXTS)}
    asked: dict[str, Any] = {"model": "m", "temperature": 0, "messages": [message]}
    for name, values in (("seed", [1, 2]), ("user", ["1", "2"]), ("max_tokens", [5])):
        if chance.random() < 0.2:
            asked[name] = chance.choice(values)
    return asked, {**asked, "stream": True} if chance.random() < 0.3 else asked


def a_query(operation: str, chance: random.Random) -> tuple[dict[str, Any], str]:
    """The question, and a query string that asks it."""
    asked: dict[str, Any] = {"q": chance.choice(TEXTS)}
    if operation == FX:
        asked = {"base": "EUR", "quote": chance.choice(["USD", "SEK"])}
    elif operation == WEATHER:
        asked = {"lat": chance.choice([1, 1.5]), "lon": chance.choice([7, -7])}
    steering = {
        name: value
        for name, value in (("fallback", "false"), ("include", "extra"))
        if chance.random() < 0.2
    }
    pairs = [(name, written(value, chance)) for name, value in (asked | steering).items()]
    chance.shuffle(pairs)
    return asked | steering, "&".join(f"{name}={value}" for name, value in pairs)


def written(value: Any, chance: random.Random) -> str:
    if isinstance(value, (int, float)):
        return chance.choice([str(value), f"{value:e}".replace("+", "%2B"), f"{value:.3f}"])
    safe = chance.choice(["", "{}:"])
    return "".join(
        f"%{ord(each):02x}" if each.isascii() and chance.random() < 0.3 else quote(each, safe=safe)
        for each in value
    )


def noise(chance: random.Random) -> list[tuple[str, str]]:
    said = [(name, chance.choice(["30000", "40000"])) for name in chance.sample(UNKEYED, 4)]
    chance.shuffle(said)
    return said


@dataclass
class Callers:
    rig: Rig
    keys: Mapping[tuple[int, Mode], str]
    chance: random.Random
    wrong: list[tuple[Asked, Asked]] = field(default_factory=list)
    hits: int = 0

    async def call(self, provider: Provider) -> None:
        chance = self.chance
        (tenant, mode), key = chance.choice(list(self.keys.items()))
        operation = chance.choice(["chat.completions", FX, GEO, WEATHER])
        headers = noise(chance)
        if mode is Mode.TEST:
            headers.append(("X-Patchbay-Cache-Control", "max-age=300"))
        if operation == "chat.completions":
            question, body = a_chat(chance)
            path, request = CHAT, {"body": spelled(body, chance).encode()}
        else:
            question, query = a_query(operation, chance)
            path, request = f"/api/v1/{operation.replace('.', '/')}?{query}", {}
        asked = Asked(tenant, mode, operation, plain(question))
        ASKING.set(asked)
        client = await self.rig.ask(path, key=key, headers=headers, **request)
        assert client.status == 200, client.body
        self.hits += client.headers["x-patchbay-cache"] == "hit"
        told = provider.made[heard(client, operation)]
        if told.key != asked.key:
            self.wrong.append((asked, told))


def test_nobody_hears_what_another_was_told(
    rig: Rig, is_long: bool, record_property: Callable[[str, object], None]
) -> None:
    count = 10_000 if is_long else 1_000

    @on_loop
    async def run() -> None:
        provider = served(rig)
        keys = {
            (tenant, mode): rig.callers.add(tenant=tenant, mode=mode)
            for tenant in (1, OWNER)
            for mode in Mode
        }
        callers = Callers(rig, keys, random.Random(10))
        for _ in range(count // AT_ONCE):
            calls = [asyncio.create_task(callers.call(provider)) for _ in range(AT_ONCE)]
            await asyncio.gather(*calls)
        keys_asked = {asked.key for asked in provider.made.values()}
        assert callers.wrong == []
        assert len(keys_asked) == len(provider.made)  # what is one question was asked once
        assert callers.hits == count - len(provider.made) > count / 3
        record_property(
            FIGURES,
            f"cache isolation: {count} calls of two tenants, {len(provider.made)} different "
            f"questions, {callers.hits} hits, 0 crossed",
        )

    run()
