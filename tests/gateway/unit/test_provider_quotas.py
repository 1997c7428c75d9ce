"""Providers' own quotas: a call goes to the first that has room, and the answer and the row say
why the others were passed over."""

from __future__ import annotations

from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import Rig, failure, provider, route, target
from tests.loops import on_loop


def of(slug: str, limit: int | None) -> object:
    """A provider with a quota of so many requests a day, or with none."""
    if limit is None:
        return provider(slug)
    quota = Quota(QuotaScope.PROVIDER, Metric.REQUESTS, Window.DAY, limit)
    return provider(slug, quotas=(quota,))


def serve(rig: Rig, **limits: int | None) -> None:
    rig.serve(route(*(target(of(slug, limit)) for slug, limit in limits.items())))  # type: ignore[arg-type]


@on_loop
async def test_the_first_with_room_serves_and_the_row_says_why(rig: Rig) -> None:
    serve(rig, lab=2, lab2=1, lab3=None)
    served = [(await rig.chat()).headers["x-patchbay-provider"] for _ in range(5)]
    assert served == ["lab", "lab", "lab2", "lab3", "lab3"]
    assert rig.upstreams.asked == served
    verdicts = [
        [(one.provider, one.verdict) for one in final.attempts] for final in rig.journal.finals
    ]
    skipped = [("lab", "skipped_quota"), ("lab2", "skipped_quota")]
    assert verdicts == [
        [],
        [],
        [*skipped[:1], ("lab2", "ok")],
        [*skipped, ("lab3", "ok")],
        [*skipped, ("lab3", "ok")],
    ]


@on_loop
async def test_a_try_that_failed_counts_at_its_provider_only(rig: Rig) -> None:
    serve(rig, lab=2, lab2=2)
    rig.upstreams.by_provider(lab=failure)
    served = [(await rig.chat()).headers.get("x-patchbay-provider") for _ in range(2)]
    assert served == ["lab2", "lab2"]
    assert rig.upstreams.asked == ["lab", "lab2", "lab", "lab2"]
    refused = await rig.chat()
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert len(rig.upstreams.asked) == 4


@on_loop
async def test_no_room_anywhere_is_told_with_the_time_when_there_is(rig: Rig) -> None:
    serve(rig, lab=0, lab2=0)
    refused = await rig.chat()
    assert (refused.status, refused.error["code"]) == (503, "provider_unavailable")
    left = 86_400 - int(rig.clock.now()) % 86_400
    assert int(refused.headers["retry-after"]) == left
    assert rig.upstreams.asked == []
    rig.clock.advance(left)
    serve(rig, lab=1, lab2=0)
    assert (await rig.chat()).status == 200


@on_loop
async def test_after_a_failure_the_next_must_have_room_too(rig: Rig) -> None:
    serve(rig, lab=5, lab2=0, lab3=None)
    rig.upstreams.by_provider(lab=failure)
    answer = await rig.chat()
    assert answer.headers["x-patchbay-provider"] == "lab3"
    verdicts = [(one.provider, one.verdict) for one in rig.final.attempts]
    assert verdicts[1:] == [("lab2", "skipped_quota"), ("lab3", "ok")]
