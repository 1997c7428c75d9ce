"""The adapter's five verbs on a small manifest of its own, and what hostile answers come to."""

import copy
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.problems import InvalidRequest, NotFound, Unavailable, UpstreamRejected, UpstreamTimeout
from providers.adapter import StreamFault, Unsupported
from providers.adapters.manifest import ManifestAdapter, compile_manifest
from providers.call import Call, Further, Outcome, Upstream, Usage, Verdict
from providers.catalogue import CatalogueFile, Example, load_examples
from providers.catalogue.examples import Serve
from providers.operations import registry
from tests.providers.exchanges import document_of, request_of, taken_apart
from tests.shipped import FILES

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "slug": "lab",
    "name": "Lab",
    "category": "geo",
    "adapter": "manifest",
    "docs_url": "https://lab.example/docs",
    "base_url": "https://lab.example/v1",
    "auth": {"type": "bearer"},
    "headers": {"user-agent": "Patchbay/1"},
    "verification": {"operation": "geo.geocode", "params": {"q": "x"}},
    "attribution": [{"text": "Lab", "licence": "CC0"}],
    "errors": [
        {"when": {"json": "oops == 'busy'"}, "as": "rate_limited", "retry_after": {"path": "wait"}}
    ],
    "operations": {
        "geo.geocode": {
            "request": {"path": "/search", "query": {"q": "{q}", "n": "{limit|10}"}},
            "errors": [
                {"when": {"json": "oops == 'day'"}, "as": "quota_exhausted", "message": "why"},
                {"when": {"json": "oops == 'none'"}, "as": "empty"},
            ],
            "records": "hits",
            "total": {"path": "total", "transform": "int"},
            "units": 3,
            "map": {
                "lat": {"path": "at", "transform": [{"split": {"by": ",", "part": 0}}, "number"]},
                "lon": {"path": "at", "transform": [{"split": {"by": ",", "part": 1}}, "number"]},
                "label": {
                    "any": ["name", {"path": "fallback", "of": "document"}, {"value": "Somewhere"}]
                },
                "extra.raw": "raw",
                "extra.upper": {"path": "raw", "transform": "upper"},
            },
            "examples": ["x"],
        },
        "finance.fx_rate": {
            "request": {"path": "/fx", "picks": ["base", "quote"]},
            "not_found_without": "rate",
            "map": {
                "base": {"param": "base"},
                "quote": {"param": "quote"},
                "rate": {"path": "rates", "transform": [{"at_key": "{base}{quote}"}, "decimal"]},
                "as_of": {"path": "day", "transform": "iso"},
            },
            "examples": ["x"],
        },
    },
}
LAB = ManifestAdapter(compile_manifest(DOCUMENT))
UP = Upstream("lab", "https://lab.example/v1", secret="s3")
FIND = Call("geo.geocode", {"q": "Åre", "limit": 2})
FX = Call("finance.fx_rate", {"base": "USD", "quote": "EUR"})


def answer(document: Any, call: Call = FIND, status: int = 200) -> Any:
    outcome = LAB.outcome(status, {}, orjson.dumps(document))
    assert outcome.is_answer
    return LAB.meter(call, UP).whole(outcome, b"")


def fault(document: Any, call: Call = FIND, status: int = 200) -> Outcome:
    with pytest.raises(StreamFault) as caught:
        answer(document, call, status)
    return caught.value.outcome


def test_the_request_is_whole() -> None:
    request = LAB.request(FIND, UP)
    assert request.method == "GET"
    assert request.url == "https://lab.example/v1/search?q=%C3%85re&n=2"
    assert request.headers == {
        "accept": "application/json",
        "user-agent": "Patchbay/1",
        "authorization": "Bearer s3",
    }
    assert request.body is None


def test_staff_say_who_calls_but_cannot_take_the_credential_away() -> None:
    upstream = Upstream(
        "lab",
        UP.base_url,
        secret="s3",
        settings={"headers": {"User-Agent": "acme", "Authorization": "x"}},
    )
    headers = LAB.request(FIND, upstream).headers
    assert headers["user-agent"] == "acme"
    assert headers["authorization"] == "Bearer s3"


def test_another_operation_is_not_served() -> None:
    with pytest.raises(Unsupported):
        LAB.request(Call("weather.current", {}), UP)


def test_what_is_reserved_and_counted_is_what_the_manifest_bills() -> None:
    assert LAB.estimate(FIND, UP) == Usage(units=3)
    meter = LAB.meter(FIND, UP)
    assert (meter.usage, meter.complete) == (None, False)
    meter.whole(LAB.outcome(200, {}, b'{"hits": []}'), b"")
    assert (meter.usage, meter.complete) == (Usage(units=3), True)
    assert meter.feed(b"x") == meter.close() == []


def test_a_list_is_cut_at_the_limit_and_tells_its_total() -> None:
    hits = [{"at": "1,2", "name": "A"}, {"at": "3,4"}, {"at": "nonsense"}]
    found = answer({"hits": hits, "total": "17", "fallback": "F"})
    assert found.data == [{"lat": 1, "lon": 2, "label": "A"}, {"lat": 3, "lon": 4, "label": "F"}]
    assert found.page == {"total": 17, "limit": 2, "next_cursor": None}
    assert found.attribution == [{"text": "Lab", "licence": "CC0"}]


def test_a_single_answer_says_its_age() -> None:
    found = answer({"rates": {"USDEUR": 0.9}, "day": "2026-11-20"}, FX)
    assert found.as_of == found.data["as_of"] == "2026-11-20T00:00:00Z"
    assert found.page is None


def test_extras_come_only_when_asked_for_and_never_break_an_answer() -> None:
    call = Call("geo.geocode", {"q": "x"}, include_extra=True)
    hit = {"at": "1,2", "raw": "a"}
    assert answer({"hits": [hit]}, call).data[0]["extra"] == {"raw": "a", "upper": "A"}
    assert "extra" not in answer({"hits": [hit]}).data[0]
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for raw, extra in (
        (deep, {}),
        ({"a": 1}, {}),
        ([1, None], {}),
        (5, {"raw": 5}),
        ([1, "a"], {"raw": [1, "a"]}),
    ):
        assert answer({"hits": [{**hit, "raw": raw}]}, call).data[0]["extra"] == extra


@pytest.mark.parametrize(
    "document",
    [
        {"hits": "Invalid place"},
        {"hits": None},
        {},
        [],
        "x",
        5,
        {"hits": ["a"]},
        {"hits": [[]]},
        {"hits": [{}]},
        {"hits": [{"at": "91,2"}]},
        {"hits": [{"at": "1,2", "name": 5}]},
        {"hits": [{"at": [1, 2]}]},
        {"hits": [], "total": "many"},
    ],
)
def test_a_document_of_another_shape_is_a_bad_payload(document: Any) -> None:
    found = fault(document)
    assert found.verdict is Verdict.BAD_PAYLOAD
    assert found.is_provider_fault
    assert found.falls_back


def test_incomplete_records_are_skipped_only_where_the_manifest_says_so() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["operations"]["geo.geocode"]["incomplete"] = "skip"
    adapter = ManifestAdapter(compile_manifest(document))
    outcome = adapter.outcome(200, {}, b'{"hits": [{}, {"at": "1,2"}, 5]}')
    assert len(adapter.meter(FIND, UP).whole(outcome, b"").data) == 1
    outcome = adapter.outcome(200, {}, b'{"hits": [{}, 5]}')
    with pytest.raises(StreamFault):
        adapter.meter(FIND, UP).whole(outcome, b"")


def test_nothing_found_is_an_empty_list_or_not_found() -> None:
    for document, status in (({"oops": "none"}, 200), ({}, 404), ({"hits": []}, 200)):
        assert answer(document, FIND, status).data == []
    assert fault({}, FX, 404).verdict is Verdict.NOT_FOUND
    missing = fault({"rates": {}, "day": "2026-11-20"}, FX)
    assert missing.verdict is Verdict.NOT_FOUND
    assert not missing.is_provider_fault


def test_what_a_narrow_one_does_not_find_the_next_is_asked_for() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["operations"]["finance.fx_rate"]["narrow"] = True
    narrow = ManifestAdapter(compile_manifest(document))
    body = orjson.dumps({"rates": {"USDSEK": 9.4}, "day": "2026-11-27"})
    with pytest.raises(StreamFault) as raised:
        narrow.meter(FX, UP).whole(narrow.outcome(200, {}, body), body)
    assert raised.value.outcome.verdict is Verdict.BLOCKED


def test_the_operations_own_rules_end_an_attempt_too() -> None:
    found = fault({"oops": "day", "why": "used up"})
    assert (found.verdict, found.message) == (Verdict.QUOTA_EXHAUSTED, "used up")


def test_the_manifests_rules_come_before_http() -> None:
    outcome = LAB.outcome(200, {}, b'{"oops": "busy", "wait": 2.5}')
    assert (outcome.verdict, outcome.retry_after) == (Verdict.RATE_LIMITED, 2.5)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"NaN", b"\xff", b"null", b"[" * 5000, b'"\\ud800"']
)
def test_a_success_that_is_no_json_is_a_bad_payload(body: bytes) -> None:
    assert LAB.outcome(200, {"content-type": "text/html"}, body).verdict is Verdict.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("outcome", "kind", "status", "wait"),
    [
        (Outcome(Verdict.NOT_FOUND, 200), NotFound, 404, None),
        (Outcome(Verdict.EMPTY, 204), NotFound, 404, None),
        (Outcome(Verdict.INVALID_REQUEST, 422, "bad pair"), UpstreamRejected, 422, None),
        (Outcome(Verdict.INVALID_REQUEST, 200, "bad pair"), UpstreamRejected, 400, None),
        (Outcome(Verdict.RATE_LIMITED, 429, retry_after=1.2), Unavailable, 503, 2),
        (Outcome(Verdict.QUOTA_EXHAUSTED, 200), Unavailable, 503, None),
        (Outcome(Verdict.UNAVAILABLE, 500), Unavailable, 503, None),
        (Outcome(Verdict.UNREACHABLE), Unavailable, 503, None),
        (Outcome(Verdict.TIMEOUT), UpstreamTimeout, 504, None),
        (Outcome(Verdict.AUTH, 401, "bad key"), UpstreamRejected, 502, None),
        (Outcome(Verdict.BLOCKED, 403), UpstreamRejected, 502, None),
        (Outcome(Verdict.BAD_PAYLOAD, 200), UpstreamRejected, 502, None),
    ],
)
def test_problems(outcome: Outcome, kind: type, status: int, wait: int | None) -> None:
    problem = LAB.problem(outcome)
    assert type(problem) is kind
    assert (problem.status, problem.retry_after) == (status, wait)
    assert ("bad" in problem.detail) == (outcome.verdict is Verdict.INVALID_REQUEST)


# --- hostile answers, for every provider that ships ---

SHOWN = [
    (file, example)
    for file in FILES
    if file.manifest
    for example in load_examples(file.slug)
    if example.serve is not Serve.FAULT
    and (example.expect.get("data") or example.expect.get("gives"))
]
_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            "N/A",
            "<b>x</b>",
            "9" * 500,
            "1e400",
            "x" * 5000,
            [],
            {},
            [[]],
            {"a": {"b": []}},
            [None] * 50,
            1e308,
            2**63,
            "0000",
            "\x00",
        ]
    ),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.copy(document)
    changed[path[0]] = put(document[path[0]], path[1:], value)
    return changed


def without(document: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return {}
    changed = copy.copy(document)
    if len(path) == 1:
        del changed[path[0]]
    else:
        changed[path[0]] = without(document[path[0]], path[1:])
    return changed


def judge(file: CatalogueFile, example: Example, body: bytes, status: int = 200) -> None:
    """Whatever the body, the attempt ends in a verdict or in a canonical answer."""
    assert file.manifest
    adapter = ManifestAdapter(file.manifest)
    call = Call(example.operation, dict(example.params), include_extra=True)
    upstream = Upstream(file.slug, file.manifest.base_url)
    judged = request_of(file.manifest, example, upstream).judge or adapter.outcome
    outcome = judged(status, {"content-type": "application/json"}, body)
    if not outcome.is_answer:
        adapter.problem(outcome)
        return
    try:
        found = taken_apart(file.manifest, example, call, outcome)
    except StreamFault as error:
        assert error.outcome.verdict is not Verdict.OK
        adapter.problem(error.outcome)
        return
    if isinstance(found, Further):
        own = urlsplit(upstream.base_url)
        for request in found.requests:
            assert urlsplit(request.url)[:2] == own[:2]
        return
    operation = registry()[example.operation]
    assert isinstance(found.data, list) == operation.is_list
    for item in found.data if operation.is_list else [found.data]:
        assert operation.takes(item)
    orjson.dumps(found.data)


@given(st.sampled_from(SHOWN), st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_answer_never_gets_through_wrong(
    shown: tuple[CatalogueFile, Example], data: st.DataObject
) -> None:
    file, example = shown
    assert file.manifest
    document = document_of(file.manifest, example)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(document)))
        gone = data.draw(st.booleans())
        document = without(document, path) if gone else put(document, path, data.draw(_JUNK))
    try:
        body = orjson.dumps(document)
    except TypeError:  # an integer that JSON here cannot hold
        return
    judge(file, example, body, data.draw(st.sampled_from([200, 200, 200, 201, 404])))


JUNK: tuple[Any, ...] = (None, "", "<html>", -1, 1e300, True, [], [{}], "x" * 20_000)


@pytest.mark.unmeasured
@pytest.mark.parametrize(("file", "example"), SHOWN, ids=[f"{f.slug}/{e.name}" for f, e in SHOWN])
def test_every_field_of_every_answer_may_be_junk_deep_or_huge(
    file: CatalogueFile, example: Example, is_long: bool
) -> None:
    """In the short form each field is one kind of junk, and a few are deep."""
    assert file.manifest
    document = document_of(file.manifest, example)
    spots = places(document)[:60]
    for number, path in enumerate(spots):
        for junk in JUNK if is_long else (JUNK[number % len(JUNK)],):
            judge(file, example, orjson.dumps(put(document, path, junk)))
    raw_deep = b'{"a":' * 400 + b"1" + b"}" * 400
    for path in spots if is_long else spots[-2:]:
        body = orjson.dumps(put(document, path, "@@deep@@")).replace(b'"@@deep@@"', raw_deep)
        judge(file, example, body)


@given(st.sampled_from(SHOWN), st.binary(max_size=200), st.integers(100, 599))
@settings(max_examples=100, deadline=None)
def test_bytes_of_any_kind_end_in_a_verdict(
    shown: tuple[CatalogueFile, Example], body: bytes, status: int
) -> None:
    judge(*shown, body, status)


@pytest.mark.unmeasured
@pytest.mark.parametrize("q", ["..", "a/b", "a?b#c", "%2e%2e", "x y", "å", "a&key=1"])
def test_no_shipped_request_leaves_its_path(q: str) -> None:
    for file, example in SHOWN:
        assert file.manifest
        params = {
            name: q if isinstance(value, str) else value for name, value in example.params.items()
        }
        upstream = Upstream(file.slug, file.manifest.base_url)
        try:
            request = ManifestAdapter(file.manifest).request(
                Call(example.operation, params), upstream
            )
        except InvalidRequest:
            continue
        assert request.url.startswith(file.manifest.base_url + "/")
        path = request.url.partition("?")[0].removeprefix(file.manifest.base_url)
        expected = file.manifest.operations[example.operation].requests[0][1].path
        assert path.count("/") == "".join(p for p in expected.parts if isinstance(p, str)).count(
            "/"
        )
        assert "#" not in request.url
