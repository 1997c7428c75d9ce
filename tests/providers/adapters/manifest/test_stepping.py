"""Operations that take several requests: what follows from what, and where it ends."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapter import StreamFault, Unsupported
from providers.adapters.manifest import ManifestAdapter, compile_manifest
from providers.adapters.manifest.request import below
from providers.call import Answer, Call, Further, Outcome, Upstream, Usage, Verdict
from tests.providers.adapters.manifest.test_manifest_adapter import DOCUMENT as PLAIN

BASE = "https://lab.example/v1"
DOCUMENT = copy.deepcopy(PLAIN)
DOCUMENT["operations"] = {
    "geo.geocode": {
        "steps": [
            {
                "name": "found",
                "request": {"path": "/search", "query": {"q": "{q}"}},
                "errors": [{"when": {"status": 418, "header": {"x-why": "tea"}}, "as": "empty"}],
                "give": {"ids": "ids", "total": "total"},
            }
        ],
        "each": {"of": "steps.found.ids", "most": 3},
        "request": {"path": "/places/{each}"},
        "total": {"param": "steps.found.total"},
        "incomplete": "skip",
        "map": {"lat": "lat", "lon": "lon", "label": "name"},
        "examples": ["x"],
    },
    "finance.fx_rate": {
        "steps": [
            {
                "name": "pair",
                "request": {
                    "path": "/pairs",
                    "body": {"json": {"from": "{base}", "to": "{quote}"}},
                    "only": {"base": ["EUR", "USD"]},
                },
                "give": {"link": "links.rate"},
            },
            {
                "name": "rate",
                "request": {"url": "{steps.pair.link}"},
                "give": {"id": "id", "day": {"any": ["day", {"value": "2026-11-20"}]}},
            },
        ],
        "request": {"path": "/rates/{steps.rate.id}", "query": {"day": "{steps.rate.day}"}},
        "units": 5,
        "map": {
            "base": {"param": "base"},
            "quote": {"param": "quote"},
            "rate": {"path": "rate", "transform": "decimal"},
            "as_of": {"param": "steps.rate.day", "transform": "iso"},
        },
        "examples": ["x"],
    },
}
LAB = ManifestAdapter(compile_manifest(DOCUMENT))
UP = Upstream("lab", BASE, secret="s3")
FIND = Call("geo.geocode", {"q": "Åre"})
FX = Call("finance.fx_rate", {"base": "EUR", "quote": "SEK"})


def ok(document: Any) -> Outcome:
    return LAB.outcome(200, {}, orjson.dumps(document))


def begin(call: Call, document: Any, upstream: Upstream = UP) -> tuple[Any, Answer | Further]:
    meter = LAB.meter(call, upstream)
    return meter, meter.whole(ok(document), b"")


def further(found: Answer | Further) -> Further:
    assert isinstance(found, Further)
    return found


def ends(found: Answer | Further) -> Answer:
    assert isinstance(found, Answer)
    return found


def test_each_request_is_made_of_what_the_ones_before_it_gave() -> None:
    first = LAB.request(FX, UP)
    assert (first.method, first.url) == ("POST", f"{BASE}/pairs")
    assert first.body == b'{"from":"EUR","to":"SEK"}'
    assert first.headers["content-type"] == "application/json"
    meter, found = begin(FX, {"links": {"rate": f"{BASE}/pairs/7?x=1"}})
    (second,) = further(found).requests
    assert (second.method, second.url, second.body) == ("GET", f"{BASE}/pairs/7?x=1", None)
    assert second.headers["authorization"] == "Bearer s3"
    assert not meter.complete
    found = further(found).then([ok({"id": 9})])
    (third,) = further(found).requests
    assert third.url == f"{BASE}/rates/9?day=2026-11-20"
    answer = ends(further(found).then([ok({"rate": "11.5"})]))
    assert answer.data["rate"] == "11.5"
    assert answer.as_of == "2026-11-20T00:00:00Z"
    assert (meter.complete, meter.usage) == (True, Usage(units=5))


def test_a_fan_out_keeps_the_order_and_leaves_out_what_failed() -> None:
    meter, found = begin(FIND, {"ids": [5, 3, 8, 1], "total": 40})
    requests = further(found).requests
    assert [each.url for each in requests] == [f"{BASE}/places/{number}" for number in (5, 3, 8)]
    place = {"lat": 1, "lon": 2}
    ended = [ok({**place, "name": "A"}), Outcome(Verdict.TIMEOUT), ok({**place, "name": "B"})]
    answer = ends(further(found).then(ended))
    assert [item["label"] for item in answer.data] == ["A", "B"]
    assert answer.page == {"total": 40, "limit": 10, "next_cursor": None}
    assert meter.usage == Usage(units=4)
    assert LAB.estimate(FIND, UP) == Usage(units=4)


def test_no_more_is_asked_for_than_the_call_wants() -> None:
    _, found = begin(Call("geo.geocode", {"q": "x", "limit": 1}), {"ids": [5, 3], "total": 2})
    assert len(further(found).requests) == 1


def test_a_fan_out_of_which_all_failed_has_failed() -> None:
    _, found = begin(FIND, {"ids": [5, 3], "total": 2})
    with pytest.raises(StreamFault) as caught:
        further(found).then(
            [Outcome(Verdict.RATE_LIMITED, 429, retry_after=7), Outcome(Verdict.NOT_FOUND, 404)]
        )
    assert (caught.value.outcome.verdict, caught.value.outcome.retry_after) == ("rate_limited", 7)
    assert ends(further(found).then([Outcome(Verdict.NOT_FOUND, 404)] * 2)).data == []


@pytest.mark.parametrize("document", [{"ids": [], "total": 0}, {"ids": None, "total": 0}, {}])
def test_nothing_found_by_a_step_ends_it_there(document: Any) -> None:
    meter, found = begin(FIND, document)
    assert ends(found).data == []
    assert (meter.complete, meter.usage) == (True, Usage(units=1))


def test_nothing_found_of_one_thing_is_not_found() -> None:
    with pytest.raises(StreamFault) as caught:
        begin(FX, {"links": {}})
    assert caught.value.outcome.verdict is Verdict.NOT_FOUND
    assert not caught.value.outcome.is_provider_fault


def test_a_steps_own_rules_see_headers_and_come_first() -> None:
    judge = LAB.request(FIND, UP).judge
    assert judge is not None
    outcome = judge(418, {"x-why": "tea"}, b"")
    assert outcome.verdict is Verdict.EMPTY
    assert judge(418, {}, b"").verdict is Verdict.INVALID_REQUEST
    assert judge(200, {}, b'{"oops": "busy", "wait": 2}').verdict is Verdict.RATE_LIMITED
    assert ends(LAB.meter(FIND, UP).whole(outcome, b"")).data == []


def test_a_later_failure_is_the_attempts() -> None:
    _, found = begin(FX, {"links": {"rate": f"{BASE}/pairs/7"}})
    with pytest.raises(StreamFault) as caught:
        further(found).then([Outcome(Verdict.QUOTA_EXHAUSTED, 429, "used up", retry_after=60)])
    assert caught.value.outcome.verdict is Verdict.QUOTA_EXHAUSTED


@pytest.mark.parametrize("ids", ["x", 5, {"a": 1}, [None], [[1]], [{}]])
def test_what_is_no_list_to_fan_out_over_is_a_bad_payload(ids: Any) -> None:
    with pytest.raises(StreamFault) as caught:
        begin(FIND, {"ids": ids, "total": 1})
    assert caught.value.outcome.verdict is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize("value", ["..", ".", "", [1], {"a": 1}])
def test_a_step_cannot_lead_to_another_path(value: Any) -> None:
    _, found = begin(FX, {"links": {"rate": f"{BASE}/pairs/7"}})
    with pytest.raises(StreamFault) as caught:
        further(found).then([ok({"id": value})])
    assert caught.value.outcome.verdict is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1/x",
        "https://lab.example.evil.example/v1/x",
        "https://lab.example@evil.example/v1/x",
        "https://user@lab.example/v1/x",
        "https://lab.example:8443/v1/x",
        "http://lab.example/v1/x",
        "//lab.example/v1/x",
        "/v1/x",
        "https://lab.example/v2/x",
        "https://lab.example/v1",
        "https://lab.example/v10/x",
        "https://lab.example/v1/../admin",
        "https://lab.example/v1/%2e%2e/admin",
        "https://lab.example/v1/..\\admin",
        "https://lab.example/v1/x\r\nhost: y",
        "https://lab.example/v1/å",
        "https://[lab/v1/x",
        "https://lab.example:99999/v1/x",
        "http://169.254.169.254/v1/x",
        "file:///etc/passwd",
        "javascript:1",
        "",
        7,
    ],
)
def test_a_link_leads_nowhere_but_below_the_base_url(link: Any) -> None:
    with pytest.raises(StreamFault) as caught:
        begin(FX, {"links": {"rate": link}})
    assert caught.value.outcome.verdict is Verdict.BAD_PAYLOAD


@given(st.text(max_size=40), st.sampled_from(["", "https://", f"{BASE}/", "https://lab.example"]))
@settings(max_examples=200, deadline=None)
def test_whatever_a_link_is_the_host_is_ours(text: str, head: str) -> None:
    rest = below(BASE, head + text)
    if rest is not None:
        assert rest.startswith("/")
        assert ".." not in rest.partition("?")[0].split("/")


def test_a_link_is_followed_through_whatever_stands_before_the_service() -> None:
    proxy = Upstream("lab", "http://10.0.0.9:81/lab/v1")
    _, found = begin(FX, {"links": {"rate": f"{BASE}/pairs/7"}}, proxy)
    assert further(found).requests[0].url == "http://10.0.0.9:81/lab/v1/pairs/7"
    _, found = begin(FX, {"links": {"rate": "http://10.0.0.9:81/lab/v1/pairs/8"}}, proxy)
    assert further(found).requests[0].url == "http://10.0.0.9:81/lab/v1/pairs/8"


def test_a_value_that_the_provider_does_not_take_goes_elsewhere() -> None:
    with pytest.raises(Unsupported) as caught:
        LAB.request(Call("finance.fx_rate", {"base": "SEK", "quote": "EUR"}), UP)
    assert caught.value.param == "base"
    with pytest.raises(Unsupported):
        LAB.request(Call("geo.geocode", {"q": "x", "cursor": "c"}), UP)
