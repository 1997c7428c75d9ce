"""What a naive client gets wrong, each as it happens and as a manifest says what it means."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
import yaml

from providers.adapter import StreamFault
from providers.adapters.manifest import ManifestAdapter, compile_manifest
from providers.call import Call, Outcome, Upstream, Verdict
from tests.providers.adapters.manifest.test_manifest_adapter import DOCUMENT as PLAIN

HTML, JSON, PLAIN_TEXT = "text/html", "application/json", "text/plain"
CALL = Call("geo.geocode", {"q": "x"})


def lab(rules: str, records: str = "hits") -> ManifestAdapter:
    made = copy.deepcopy(PLAIN)
    made["errors"] = yaml.safe_load(rules)
    made["operations"] = {
        "geo.geocode": {
            "request": {"path": "/", "query": {"q": "{q}"}},
            "records": records,
            "map": {"lat": "lat", "lon": "lon", "label": "name"},
            "examples": ["x"],
        }
    }
    return ManifestAdapter(compile_manifest(made))


def ended(adapter: ManifestAdapter, body: Any, status: int = 200, **headers: str) -> Outcome:
    headers = {"content-type": JSON, **{k.replace("_", "-"): v for k, v in headers.items()}}
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    outcome = adapter.outcome(status, headers, raw)
    if outcome.is_answer:
        try:
            adapter.meter(CALL, Upstream("lab", "https://lab.example/v1")).whole(outcome, raw)
        except StreamFault as fault:
            return fault.outcome
    return outcome


CODES = """
- {when: {json: "error.code == `4`"}, as: rate_limited, retry_after: 5}
- {when: {json: "error.code == `800`"}, as: empty}
- {when: {json: error}, as: upstream_unavailable}
"""
DIALECTS = """
- {when: {json: "error.code == 'OVER_RATE_LIMIT'"}, as: rate_limited}
- {when: {json: "error.code"}, as: auth}
- {when: {json: "code && msg"}, as: invalid_request, message: msg}
"""
NOT_JSON = """
- {when: {status: 200, content_type: text/html}, as: invalid_request}
- {when: {status: 413, content_type: text/html}, as: invalid_request}
- {when: {status: 403, empty_body: true}, as: auth}
- {when: {status: 403, content_type: text/plain}, as: rate_limited, retry_after: 3600}
"""
QUOTA = """
- {when: {status: 429, json: "error.details[?contains(type, 'RetryInfo')]"}, as: rate_limited,
   retry_after: {path: "error.details[?contains(type, 'RetryInfo')].retryDelay | [0]",
                 transform: [{before: s}, number]}}
- {when: {json: "contains(Note || '', 'per day')"}, as: quota_exhausted, message: Note, resets: day}
"""
ZEROS = "[{when: {json: 'c == `0` && t == `0`'}, as: empty}]"
NONE = "[{when: {json: \"type(hits) == 'string'\"}, as: empty, message: hits}]"


@pytest.mark.parametrize(
    ("rules", "status", "content_type", "body", "verdict"),
    [
        # An error with 200, and the same one with two statuses.
        (CODES, 200, JSON, {"error": {"code": 800}}, Verdict.EMPTY),
        (CODES, 404, JSON, {"error": {"code": 800}}, Verdict.EMPTY),
        (CODES, 200, JSON, {"error": {"code": 4}}, Verdict.RATE_LIMITED),
        (CODES, 200, JSON, {"error": {"code": 7}}, Verdict.UNAVAILABLE),
        # 404 is nothing found, but not where another server answers it.
        ("[]", 404, HTML, "<html>no such page</html>", Verdict.BLOCKED),
        ("[]", 404, JSON, '{"title": "no such r}} oops', Verdict.BLOCKED),
        ("[]", 404, JSON, {"title": "no such record"}, Verdict.NOT_FOUND),
        ("[]", 404, PLAIN_TEXT, "", Verdict.NOT_FOUND),
        ("[{when: {status: 404}, as: empty}]", 404, JSON, {"error": "Unable"}, Verdict.EMPTY),
        # A code in the body that says success, or not.
        ("[{when: {json: \"code != '0'\"}, as: upstream_unavailable}]", 200, JSON, {"code": "5"}, Verdict.UNAVAILABLE),
        ("[{when: {json: \"code != '0'\"}, as: upstream_unavailable}]", 200, JSON, {"code": "0", "hits": []}, Verdict.OK),
        ("[{when: {json: 'error[0]'}, as: invalid_request}]", 200, JSON, {"error": [], "hits": []}, Verdict.OK),
        ("[{when: {json: 'error[0]'}, as: invalid_request}]", 200, JSON, {"error": ["x"]}, Verdict.INVALID_REQUEST),
        # A text where a list should be: a bad payload, unless a rule knows better.
        ("[]", 200, JSON, {"hits": "Invalid League ID"}, Verdict.BAD_PAYLOAD),
        ("[]", 200, JSON, {"hits": ["banana", "bandana"]}, Verdict.BAD_PAYLOAD),
        (NONE, 200, JSON, {"hits": "Invalid League ID"}, Verdict.EMPTY),
        # Zeros that mean unknown.
        (ZEROS, 200, JSON, {"c": 0, "t": 0}, Verdict.EMPTY),
        # Two dialects of one service.
        (DIALECTS, 429, JSON, {"error": {"code": "OVER_RATE_LIMIT"}}, Verdict.RATE_LIMITED),
        (DIALECTS, 403, JSON, {"error": {"code": "API_KEY_INVALID"}}, Verdict.AUTH),
        (DIALECTS, 400, JSON, {"code": 400, "msg": "Date must be"}, Verdict.INVALID_REQUEST),
        # What is no JSON.
        (NOT_JSON, 403, JSON, "", Verdict.AUTH),
        (NOT_JSON, 413, HTML, "<html>too large</html>", Verdict.INVALID_REQUEST),
        (NOT_JSON, 200, HTML, "Your query was too short", Verdict.INVALID_REQUEST),
        (NOT_JSON, 403, PLAIN_TEXT, "Rate Limit Exceeded", Verdict.RATE_LIMITED),
        ("[]", 200, HTML, "<html>hello</html>", Verdict.BAD_PAYLOAD),
        # An error among the data.
        ("[{when: {json: 'responseStatus == `429`'}, as: quota_exhausted}]", 200, JSON, {"responseStatus": 429, "hits": []}, Verdict.QUOTA_EXHAUSTED),
    ],
)  # fmt: skip
def test_each_trap_can_be_said(
    rules: str, status: int, content_type: str, body: Any, verdict: Verdict
) -> None:
    outcome = ended(lab(rules), body, status, content_type=content_type)
    assert outcome.verdict is verdict
    assert outcome.is_provider_fault == (verdict in (Verdict.UNAVAILABLE, Verdict.BAD_PAYLOAD))


def test_a_wait_may_stand_in_the_body() -> None:
    detail = {"type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
    outcome = ended(lab(QUOTA), {"error": {"details": [{"type": "x"}, detail]}}, 429)
    assert (outcome.verdict, outcome.retry_after) == (Verdict.RATE_LIMITED, 34.4)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"date": "Sat, 28 Nov 2026 23:59:00 GMT"}, 60.0),
        ({"date": "Sat, 28 Nov 2026 00:00:00 GMT"}, 86_400.0),
        ({}, 86_400.0),
        ({"date": "nonsense"}, 86_400.0),
        ({"date": "Sat, 28 Nov 2026 23:59:00 GMT", "retry_after": "7"}, 7.0),
    ],
)
def test_a_used_up_quota_waits_for_its_window_to_end(headers: Any, seconds: float) -> None:
    outcome = ended(lab(QUOTA), {"Note": "25 requests per day"}, **headers)
    assert (outcome.verdict, outcome.retry_after) == (Verdict.QUOTA_EXHAUSTED, seconds)
    assert outcome.message == "25 requests per day"


@pytest.mark.parametrize(
    ("window", "seconds"),
    [("minute", 15.0), ("hour", 615.0), ("day", 36_615.0), ("month", 86_400.0)],
)
def test_windows_end_in_utc(window: str, seconds: float) -> None:
    adapter = lab(f"[{{when: {{status: 429}}, as: quota_exhausted, resets: {window}}}]")
    outcome = ended(adapter, {}, 429, date="Sat, 28 Nov 2026 13:49:45 GMT")
    assert outcome.retry_after == seconds


def test_the_first_element_may_be_passed_over() -> None:
    adapter = lab("[]", records="[1:]")
    body = [{"legal": "notice"}, {"lat": 1, "lon": 2, "name": "A"}]
    raw = orjson.dumps(body)
    outcome = adapter.outcome(200, {}, raw)
    answer: Any = adapter.meter(CALL, Upstream("lab", "https://lab.example/v1")).whole(outcome, raw)
    assert [item["label"] for item in answer.data] == ["A"]
