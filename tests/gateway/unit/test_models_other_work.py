"""Ranks, verdicts and images on the data path; and vectors, which never come from another model."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from providers.amounts import IMAGES
from providers.call import UpstreamRequest
from providers.prices import Prices
from providers.timeouts import Timeouts
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import Reply, Rig, failure, provider, route, target, whole
from tests.loops import on_loop

RANK, JUDGE, PAINT = "/api/v1/rerank", "/api/v1/moderations", "/api/v1/images/generations"
EMBED = "/api/v1/embeddings"
QUESTION = {"model": "m", "query": "q", "documents": ["one", "two"]}
RANKED = {
    "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}],
    "usage": {"total_tokens": 8},
}
SEARCHED = {"results": RANKED["results"], "meta": {"billed_units": {"search_units": 1}}}
VERDICT = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.1}}
KEPT = {"ttl": 60}


@on_loop
async def test_a_rank_is_billed_by_tokens_or_by_searches(rig: Rig) -> None:
    targets = [target("lab", operation="rerank"), target("lab2", operation="rerank")]
    rig.serve(
        route(*targets),
        prices={"lab/gpt-x": Prices(1_000_000, 0), "lab2/gpt-x": Prices(unit=2_000_000_000)},
    )
    rig.upstreams.by_provider(lab=lambda: whole(RANKED), lab2=lambda: whole(SEARCHED))
    client = await rig.ask(RANK, body=QUESTION)
    assert [each["index"] for each in client.json["results"]] == [1, 0]
    assert client.json["model"] == "gpt-x"
    rig.upstreams.by_provider(lab=failure, lab2=lambda: whole(SEARCHED))
    await rig.ask(RANK, body=QUESTION)
    first, second = (final.record for final in rig.journal.finals)
    assert (first.input_tokens, first.cost) == (8, 8)
    assert (second.units, second.cost) == (1, 2000)


@pytest.mark.parametrize(
    ("prices", "most"),
    [(Prices(1_000_000, 0), 24), (Prices(unit=2_000_000_000), 2000)],
    ids=["by tokens", "by searches"],
)
@on_loop
async def test_a_money_quota_holds_whatever_a_rank_is_billed_by(
    rig: Rig, prices: Prices, most: int
) -> None:
    """Two documents of three bytes, each beside a query of one; and eight for each pair."""
    rig.serve(route(target("lab", operation="rerank")), prices={"lab/gpt-x": prices})
    rig.upstreams.script = lambda request: whole(RANKED)
    for limit, status in ((most - 1, 402), (most, 200)):
        quota = Quota(QuotaScope.TENANT, Metric.COST, Window.DAY, limit)
        key = rig.callers.add(tenant=limit, quotas=(quota,))
        assert (await rig.ask(RANK, body=QUESTION, key=key)).status == status


@on_loop
async def test_the_cheapest_comes_first_whatever_each_is_billed_by(rig: Rig) -> None:
    targets = [target(slug, operation="rerank") for slug in ("lab", "lab2", "lab3")]
    for searches, first in ((2_000_000_000, "lab2"), (1_000_000, "lab")):
        rig.serve(
            route(*targets, strategy="cost"),
            prices={
                "lab/gpt-x": Prices(unit=searches),
                "lab2/gpt-x": Prices(1_000_000, 0),
                "lab3/gpt-x": Prices(),
            },
        )
        rig.upstreams.script = lambda request: whole(RANKED)
        client = await rig.ask(RANK, body=QUESTION)
        assert client.headers["x-patchbay-provider"] == first


@on_loop
async def test_a_price_that_nobody_set_is_unknown_and_not_free(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="rerank")), prices={"lab/gpt-x": Prices()})
    quota = Quota(QuotaScope.TENANT, Metric.COST, Window.DAY, 10_000)
    key = rig.callers.add(quotas=(quota,))
    assert (await rig.ask(RANK, body=QUESTION, key=key)).error["code"] == "price_unknown"


ANSWERS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "rerank": (RANK, "rerank", QUESTION, RANKED),
    "moderations": (
        JUDGE,
        "moderations",
        {"model": "m", "input": "hello"},
        {"id": "1", "model": "x", "results": [VERDICT]},
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
@on_loop
async def test_what_follows_from_the_request_alone_is_kept(rig: Rig, case: str) -> None:
    path, operation, body, told = ANSWERS[case]
    rig.serve(route(target("lab", operation=operation), cache=KEPT))
    rig.upstreams.script = lambda request: whole(told)
    first, second = await rig.ask(path, body=body), await rig.ask(path, body=body)
    assert (first.headers["x-patchbay-cache"], second.headers["x-patchbay-cache"]) == (
        "miss",
        "hit",
    )
    assert first.body == second.body
    assert len(rig.upstreams.sent) == 1
    assert (await rig.ask(path, body={**body, "user": "x"})).headers["x-patchbay-cache"] == "miss"


@on_loop
async def test_images_are_made_anew_each_time(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="image.generations"), cache=KEPT))
    rig.upstreams.script = lambda request: whole({"created": 1, "data": [{"url": "https://x"}]})
    for _ in range(2):
        client = await rig.ask(PAINT, body={"model": "m", "prompt": "a cat"})
        assert client.headers["x-patchbay-cache"] == "bypass"
    assert len(rig.upstreams.sent) == 2


@on_loop
async def test_a_verdict_needs_no_model_as_openai_s_needs_none(rig: Rig) -> None:
    judge = target("lab", "omni-moderation-latest", operation="moderations")
    rig.serve(route(judge, name="omni-moderation-latest"))
    rig.upstreams.script = lambda request: whole({"id": "1", "model": "x", "results": [VERDICT]})
    assert (await rig.ask(JUDGE, body={"input": "hello"})).json["results"] == [VERDICT]


REFUSED = {
    "no documents": (RANK, {**QUESTION, "documents": []}),
    "a document without text": (RANK, {**QUESTION, "documents": [{"title": "x"}]}),
    "no query": (RANK, {"model": "m", "documents": ["x"]}),
    "a stream of ranks": (RANK, {**QUESTION, "stream": True}),
    "a stream of verdicts": (JUDGE, {"model": "m", "input": "x", "stream": True}),
    "a stream of images": (PAINT, {"model": "m", "prompt": "x", "stream": True}),
    "a stream of vectors": (EMBED, {"model": "m", "input": "x", "stream": True}),
    "eleven images": (PAINT, {"model": "m", "prompt": "x", "n": 11}),
    "an odd size": (PAINT, {"model": "m", "prompt": "x", "size": "huge"}),
    "nothing to judge": (JUDGE, {"model": "m"}),
}


@pytest.mark.parametrize("case", REFUSED)
@on_loop
async def test_what_makes_no_sense_is_refused_and_asks_nobody(rig: Rig, case: str) -> None:
    path, body = REFUSED[case]
    client = await rig.ask(path, body=body)
    assert (client.status, client.error["code"]) == (400, "invalid_request")
    assert rig.upstreams.sent == []


@on_loop
async def test_a_key_that_may_search_for_pictures_may_not_have_them_painted(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="image.generations")))
    key = rig.callers.add(scopes=frozenset({"images.*"}))
    client = await rig.ask(PAINT, body={"model": "m", "prompt": "a cat"}, key=key)
    assert client.error["code"] == "insufficient_scope"


@on_loop
async def test_what_takes_longer_is_waited_for_unless_the_provider_s_patience_is_told(
    rig: Rig,
) -> None:
    hasty = target(provider("hasty", timeouts=Timeouts(first_byte=5.0)), operation=IMAGES)
    rig.serve(route(target("lab", operation=IMAGES), hasty))
    rig.upstreams.script = lambda request: failure()
    await rig.ask(PAINT, body={"model": "m", "prompt": "a cat"})
    (plan,) = rig.gateway.live.snapshot.plans.values()
    assert [each.timeouts.first_byte for each in plan.candidates] == [60.0, 5.0]


# Vectors


def vectors(request: UpstreamRequest) -> Reply:
    model = orjson.loads(request.body or b"")["model"]
    data = [{"object": "embedding", "index": 0, "embedding": [0.1]}]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return whole({"object": "list", "model": model, "data": data, "usage": usage})


def embedding(slug: str, model: str, **fields: Any) -> Any:
    return target(slug, model, operation="embeddings", **fields)


@pytest.mark.parametrize("strategy", ["priority", "weighted", "latency", "cost", "adaptive"])
@on_loop
async def test_vectors_never_come_from_another_model_than_the_first(
    rig: Rig, strategy: str
) -> None:
    """A route of the database, which no check has seen, leads to two models."""
    rig.serve(
        route(
            embedding("lab", "small"),
            embedding("lab2", "large", weight=100),
            embedding("lab3", "vendor/small"),
            strategy=strategy,
        )
    )
    rig.upstreams.script = vectors
    body = {"model": "m", "input": "x"}
    for _ in range(6):
        assert (await rig.ask(EMBED, body=body)).json["model"] in ("small", "vendor/small")
    rig.upstreams.by_provider(lab=failure, lab3=failure)
    client = await rig.ask(EMBED, body=body)
    assert client.status == 503
    assert "lab2" not in rig.upstreams.asked
    assert {"provider": "lab2", "outcome": "skipped_other_model"}.items() <= {
        name: value
        for each in client.error["attempts"]
        if each["provider"] == "lab2"
        for name, value in each.items()
    }.items()


@on_loop
async def test_vectors_fall_back_within_one_model(rig: Rig) -> None:
    rig.serve(route(embedding("lab", "small"), embedding("lab3", "vendor/small")))
    rig.upstreams.script = lambda request: (
        failure() if "lab.test" in request.url else vectors(request)
    )
    client = await rig.ask(EMBED, body={"model": "m", "input": "x"})
    assert client.headers["x-patchbay-provider"] == "lab3"
