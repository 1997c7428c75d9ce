"""A batch from outside: its answers, its rows, and the document that describes it."""

from __future__ import annotations

import httpx2
from jsonschema_rs import Draft202012Validator

from tests.services.system import System

REQUESTS = [
    {"operation": "finance.quote", "params": {"symbol": "AAPL"}},
    {"operation": "finance.fx_rate", "params": {"base": "EUR", "quote": "SEK"}},
    {"operation": "weather.current", "params": {"lat": 59.33, "lon": 18.07}},
    {"operation": "finance.quote", "params": {}},
    {"operation": "nothing.at_all"},
]


def test_a_batch_over_the_wire(system: System) -> None:
    headers = {"X-API-Key": system.visitor()}
    answer = httpx2.post(
        f"{system.url}/api/v1/batch", json={"requests": REQUESTS}, headers=headers, timeout=20
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [item["status"] for item in body["data"]] == [200, 200, 200, 400, 404]
    assert body["data"][0]["body"]["data"]["symbol"] == "AAPL"
    for item in body["data"][:3]:
        row = system.record(item["body"]["meta"]["request_id"])
        assert (row["status"], row["code"], row["mode"]) == (200, "ok", "test")
    refused = body["data"][3]["body"]["request_id"]
    assert system.rows("SELECT 1 FROM usage_usagerecord WHERE request_id = ?", refused) == []


def test_the_document_says_what_is_served(system: System) -> None:
    document = httpx2.get(f"{system.url}/api/v1/schema").json()
    described = document["paths"]["/api/v1/batch"]["post"]
    assert described["security"]
    schemas = document["components"]["schemas"]
    assert Draft202012Validator(schemas["BatchRequest"]).is_valid({"requests": REQUESTS})
    assert not Draft202012Validator(schemas["BatchRequest"]).is_valid({"requests": []})
    answer = httpx2.post(
        f"{system.url}/api/v1/batch",
        json={"requests": REQUESTS},
        headers={"X-API-Key": system.visitor()},
        timeout=20,
    )
    assert Draft202012Validator(schemas["Batch"]).is_valid(answer.json())
