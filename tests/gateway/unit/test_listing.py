"""The model list: what this caller may call, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from providers.prices import Prices
from providers.snapshot import Snapshot
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope
from tests.gateway.unit.rig import Rig, data_target, price_book, provider, route, target
from tests.loops import on_loop

MODELS = "/api/v1/models"


@pytest.fixture
def served(rig: Rig) -> Rig:
    lab = target("lab", capabilities=frozenset({"vision", "tools"}))
    own = target(provider("own", secrets={2: "sk-2"}), "gpt-own")
    vectors = target("lab", "vectors", operation="embeddings")
    data = route(data_target("open-er-api"), operation="finance.fx_rate", name="finance.fx_rate")
    fast = route(lab, own, name="fast")
    rig.gateway.live.snapshot = Snapshot(
        routes={("chat.completions", "fast"): fast, ("finance.fx_rate", ""): data},
        models={
            ("chat.completions", "lab/gpt-x"): route(lab, name="lab/gpt-x"),
            ("chat.completions", "own/gpt-own"): route(own, name="own/gpt-own"),
            ("chat.completions", "empty"): route(name="empty"),
            ("embeddings", "vectors"): route(vectors, name="vectors"),
        },
    )
    rig.gateway.live.prices = price_book([lab, own], {})
    return rig


async def listed(rig: Rig, **caller: Any) -> list[str]:
    client = await rig.ask(MODELS, key=rig.callers.add(**caller))
    assert client.status == 200
    assert client.json["object"] == "list"
    return [model["id"] for model in client.json["data"]]


@on_loop
async def test_each_caller_has_a_list_of_their_own(served: Rig) -> None:
    assert await listed(served) == ["fast", "lab/gpt-x", "vectors"]
    assert await listed(served, tenant=2) == ["fast", "lab/gpt-x", "own/gpt-own", "vectors"]
    everything = ["fast", "lab/gpt-x", "own/gpt-own", "vectors"]
    assert await listed(served, mode=Mode.TEST) == everything
    assert await listed(served, scopes=frozenset({"embeddings"})) == ["vectors"]
    assert await listed(served, scopes=frozenset({"finance.*"})) == []


@on_loop
async def test_one_model_by_any_name(served: Rig) -> None:
    client = await served.ask(f"{MODELS}/lab/gpt-x")
    assert client.json == {
        "id": "lab/gpt-x",
        "object": "model",
        "created": 0,
        "owned_by": "lab",
        "operation": "chat.completions",
        "context_length": 8000,
        "max_output": 100,
        "capabilities": ["tools", "vision"],
        "prices_usd_per_million": {"input": "1", "output": "2"},
        "targets": ["lab/gpt-x"],
    }
    dearer = await served.ask(f"{MODELS}/lab/gpt-x", key=served.callers.add(markup=1250))
    assert dearer.json["prices_usd_per_million"] == {"input": "1.125", "output": "2.25"}
    vectors = await served.ask(f"{MODELS}/vectors")
    assert vectors.json["prices_usd_per_million"] == {"input": None, "output": None}
    assert (await served.ask("/api/models/fast")).json["targets"] == ["lab/gpt-x", "own/gpt-own"]


@pytest.mark.parametrize("name", ["nobody", "own/gpt-own", "empty", "finance.fx_rate", "%2e%2e"])
@on_loop
async def test_what_may_not_be_called_is_not_there(served: Rig, name: str) -> None:
    client = await served.ask(f"{MODELS}/{name}")
    assert (client.status, client.error["code"]) == (404, "not_found")
    assert client.error["param"] == "model"


@on_loop
async def test_the_list_counts_against_limits_and_makes_no_row(served: Rig) -> None:
    limits = (RateLimit(Scope.KEY, 2, 60), RateLimit(Scope.IP, 1, 60, frozenset({"embeddings"})))
    key = served.callers.add(rate_limits=limits)
    statuses = [(await served.ask(MODELS, key=key)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert served.journal.entries == []


@on_loop
async def test_what_is_billed_by_the_unit_says_so(rig: Rig) -> None:
    voice = target("lab", "voice", operation="audio.speech")
    rig.gateway.live.snapshot = Snapshot(models={("audio.speech", "voice"): route(voice)})
    rig.gateway.live.prices = price_book([voice], {"lab/voice": Prices(unit=15_000_000)})
    client = await rig.ask(f"{MODELS}/voice")
    assert client.json["operation"] == "audio.speech"
    assert client.json["prices_usd_per_million"] == {"input": None, "output": None, "unit": "15"}
