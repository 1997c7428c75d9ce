"""Attempts of several requests: one attempt, one record, one bill, and nothing left open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from providers.call import UpstreamRequest, Verdict
from providers.snapshot import TargetSpec
from providers.timeouts import Timeouts
from providers.transport import TransportFault
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import FOREVER, Reply, Rig, data_target, failure, held, route, whole
from tests.loops import eventually, on_loop

ART, PAPERS, NOW = "images.art_search", "medical.literature_search", "weather.current"
ASK_ART = "/api/v1/images/art_search?q=hokusai"
ASK_PAPERS = "/api/v1/medical/literature_search?q=metformin"
ASK_NOW = "/api/v1/weather/current?lat=38.85&lon=-77.03"
Script = Callable[[UpstreamRequest], Reply | Exception]


def serve(rig: Rig, operation: str, *slugs: str, **changed: Any) -> None:
    targets = [data_target(slug) for slug in slugs]
    targets = [TargetSpec(replace(each.provider, **changed)) for each in targets]
    rig.serve(route(*targets, operation=operation, name=operation))


def by_path(scripts: dict[str, Callable[[], Reply | Exception]]) -> Script:
    """What the first path that fits meets."""

    def script(request: UpstreamRequest) -> Reply | Exception:
        path = urlsplit(request.url).path
        return next(made for begin, made in scripts.items() if path.startswith(begin))()

    return script


def found(*ids: int) -> Reply:
    return whole({"total": 312, "objectIDs": list(ids)})


def work(number: int) -> Reply:
    return whole({"objectID": number, "title": f"Work {number}", "repository": "A museum"})


def works(*, ids: list[int], **others: Callable[[], Reply | Exception]) -> Script:
    def script(request: UpstreamRequest) -> Reply | Exception:
        last = urlsplit(request.url).path.rpartition("/")[2]
        if last == "search":
            return found(*ids)
        return others.get(f"work_{last}", lambda: work(int(last)))()

    return script


def titles(answer: Any) -> list[str]:
    return [item["title"] for item in answer["data"]]


def failures(rig: Rig, slug: str) -> tuple[int, int]:
    breaker = rig.gateway.dispatcher.breakers.of(slug)
    return breaker.failures_in_a_row, breaker.buffered.calls


@on_loop
async def test_a_fan_out_is_one_attempt_in_the_order_of_what_was_found(rig: Rig) -> None:
    serve(rig, ART, "met-museum")
    rig.upstreams.script = works(ids=[7, 3, 9])
    client = await rig.ask(ASK_ART)
    assert titles(client.json) == ["Work 7", "Work 3", "Work 9"]
    assert client.json["page"]["total"] == 312
    assert [each["outcome"] for each in client.json["meta"]["attempts"]] == ["ok"]
    assert len(rig.upstreams.sent) == 4
    assert rig.final.record.units == 4
    assert failures(rig, "met-museum") == (0, 1)
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_every_request_of_an_attempt_says_whose_call_it_is(rig: Rig) -> None:
    serve(rig, ART, "met-museum")
    rig.upstreams.script = works(ids=[7, 3])
    client = await rig.ask(ASK_ART)
    for request in rig.upstreams.sent:
        assert request.headers["x-client-request-id"] == client.headers["x-request-id"]
        assert request.bulkhead == "met-museum"
    assert rig.upstreams.private == [False] * 3


@on_loop
async def test_what_failed_in_a_fan_out_is_left_out(rig: Rig) -> None:
    serve(rig, ART, "met-museum", timeouts=Timeouts(first_byte=0.05))
    rig.upstreams.script = works(
        ids=[1, 2, 3, 4, 5],
        work_1=lambda: failure(500),
        work_2=lambda: TransportFault(Verdict.UNREACHABLE, "gone"),
        work_3=lambda: failure(404),
        work_4=lambda: Reply([FOREVER]),
    )
    client = await rig.ask(ASK_ART)
    assert titles(client.json) == ["Work 5"]
    assert failures(rig, "met-museum") == (0, 1)
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_as_much_is_reserved_as_the_attempt_may_ask_and_what_it_asked_is_settled(
    rig: Rig,
) -> None:
    quota = Quota(QuotaScope.PROVIDER, Metric.CREDITS, Window.DAY, 14)
    serve(rig, ART, "met-museum", quotas=(quota,))
    rig.upstreams.script = works(ids=[7, 3])
    assert (await rig.ask(ASK_ART)).status == 200  # 11 at most, 3 in the end
    assert (await rig.ask(ASK_ART)).status == 200
    refused = await rig.ask(ASK_ART)
    assert (refused.status, refused.error["code"]) == (503, "provider_unavailable")
    assert len(rig.upstreams.sent) == 6


@on_loop
async def test_side_by_side_is_not_one_after_the_other(rig: Rig) -> None:
    serve(rig, ART, "met-museum")
    under_way = 0

    async def send(request: UpstreamRequest, timeouts: Timeouts, *, allow_private: bool) -> Reply:
        nonlocal under_way
        if request.url.endswith("q=hokusai"):
            return found(*range(1, 11))
        under_way += 1
        await eventually(lambda: under_way == 10)
        return work(1)

    rig.upstreams.send = send  # type: ignore[method-assign,assignment]
    client = await rig.ask(ASK_ART)
    assert len(client.json["data"]) == 10


@on_loop
async def test_a_failure_at_any_step_is_one_failure_and_the_next_target_answers(rig: Rig) -> None:
    serve(rig, PAPERS, "pubmed-eutils", "europepmc", needs_credential=False)
    there = {"hitCount": 1, "resultList": {"result": [{"title": "A paper"}]}}
    ids = {"esearchresult": {"count": "1", "idlist": ["1"]}}
    for number, later in enumerate(
        [
            lambda: failure(500),
            lambda: whole({"result": "nonsense"}),
            lambda: TransportFault(Verdict.TIMEOUT, "idle"),
        ],
        1,
    ):
        rig.upstreams.script = by_path(
            {"/esearch": lambda: whole(ids), "/esummary": later, "/": lambda: whole(there)}
        )
        client = await rig.ask(ASK_PAPERS)
        assert titles(client.json) == ["A paper"], client.json
        outcomes = [each["outcome"] for each in client.json["meta"]["attempts"]]
        assert len(outcomes) == 2 and outcomes[0] != "ok"
        assert failures(rig, "pubmed-eutils") == (number, number)


@on_loop
async def test_a_refused_credential_is_drained_whichever_step_it_is_refused_at(rig: Rig) -> None:
    serve(rig, NOW, "accuweather", secrets={None: held("k")})
    rig.upstreams.script = by_path(
        {
            "/locations": lambda: whole({"Key": "314929"}),
            "/currentconditions": lambda: whole({"Code": "Unauthorized", "Message": "no"}, 401),
        }
    )
    client = await rig.ask(ASK_NOW)
    assert client.status == 502
    assert [each["outcome"] for each in client.json["attempts"]] == ["auth"]
    assert failures(rig, "accuweather")[0] == 0
    assert rig.gateway.dispatcher.retrying.pool.rests("crd_k")


@on_loop
async def test_a_step_that_hangs_ends_the_attempt_and_not_the_call(rig: Rig) -> None:
    serve(rig, NOW, "nws", "open-meteo", timeouts=Timeouts(first_byte=0.05))
    rig.upstreams.script = by_path(
        {
            "/points": lambda: whole(
                {"properties": {"observationStations": "https://api.weather.gov/x/stations"}}
            ),
            "/x/stations": lambda: Reply([FOREVER]),
            "/": lambda: failure(503),
        }
    )
    client = await rig.ask(ASK_NOW)
    outcomes = [each["outcome"] for each in client.json["attempts"]]
    assert outcomes[:2] == ["timeout", "upstream_unavailable"]
    assert failures(rig, "nws")[0] >= 1
    assert all(reply.closed for reply in rig.upstreams.replies)


@on_loop
async def test_a_link_to_another_host_is_not_followed(rig: Rig) -> None:
    serve(rig, NOW, "nws")
    evil = {"properties": {"observationStations": "http://169.254.169.254/latest/meta-data"}}
    rig.upstreams.script = lambda request: whole(evil)
    client = await rig.ask(ASK_NOW)
    assert client.status == 502
    assert {urlsplit(request.url).hostname for request in rig.upstreams.sent} == {"nws.test"}


@on_loop
async def test_a_client_that_leaves_between_steps_leaves_nothing_open(rig: Rig) -> None:
    serve(rig, ART, "met-museum")
    rig.upstreams.script = works(ids=[1, 2], work_1=lambda: Reply([FOREVER]))
    client = rig.client()
    asked = asyncio.create_task(rig.run(client, ASK_ART))
    await eventually(lambda: len(rig.upstreams.replies) == 3)
    client.gone.set()
    await asked
    assert all(reply.closed for reply in rig.upstreams.replies)
    assert failures(rig, "met-museum") == (0, 0)


@on_loop
async def test_what_was_made_of_several_answers_is_never_asked_whether_it_holds(rig: Rig) -> None:
    targets = route(
        data_target("met-museum"), operation=ART, name=ART,
        cache={"ttl": 10, "stale_if_error": 0, "stale_while_revalidate": 0},
    )  # fmt: skip
    rig.serve(targets)
    tagged = whole({"total": 1, "objectIDs": [1]}, etag='"1"')
    rig.upstreams.script = lambda request: tagged if "search" in request.url else work(1)
    await rig.ask(ASK_ART)
    assert (await rig.ask(ASK_ART)).headers["x-patchbay-cache"] == "hit"
    rig.clock.advance(60)
    await rig.ask(ASK_ART)
    assert len(rig.upstreams.sent) == 4
    assert not [each for each in rig.upstreams.sent if "if-none-match" in each.headers]
