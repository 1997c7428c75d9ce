"""Several providers asked at once, from outside, played by the sandbox: the operations people ask
for, each in every way that makes sense of it, and the document that describes the answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator

from tests.services.system import System

LISTS = {
    "books.search": {"q": "Kallocain"},
    "medical.literature_search": {"q": "metformin longevity"},
    "news.search": {"q": "fusion energy"},
    "geo.geocode": {"q": "Stockholm"},
}
FIGURES = {
    "finance.fx_rate": ({"base": "EUR", "quote": "SEK"}, "rate"),
    "finance.quote": ({"symbol": "AAPL"}, "price"),
    "finance.crypto_price": ({"asset": "BTC", "vs": "USD"}, "price"),
}
ASKED = {**LISTS, **{name: params for name, (params, _) in FIGURES.items()}}
FAN_OUT = 5


@pytest.fixture(scope="module")
def document(system: System) -> dict[str, Any]:
    answer: dict[str, Any] = httpx2.get(f"{system.url}/api/v1/schema").json()
    return answer


def ask(system: System, operation: str, strategy: str, **headers: str) -> httpx2.Response:
    return httpx2.get(
        f"{system.url}/api/v1/{operation.replace('.', '/')}",
        params={**ASKED[operation], "strategy": strategy},
        headers={"X-API-Key": system.visitor(), **headers},
        timeout=20,
    )


def checked(document: dict[str, Any], operation: str, answer: httpx2.Response) -> dict[str, Any]:
    """The body, if it is as the OpenAPI document says."""
    assert answer.status_code == 200, answer.text
    described = document["paths"][f"/api/v1/{operation.replace('.', '/')}"]["get"]
    schema = described["responses"]["200"]["content"]["application/json"]["schema"]
    body: dict[str, Any] = answer.json()
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert validator.is_valid(body), [error.message for error in validator.iter_errors(body)][:3]
    return body


@pytest.mark.parametrize("operation", ASKED)
def test_all(system: System, document: dict[str, Any], operation: str) -> None:
    body = checked(document, operation, ask(system, operation, "all"))
    providers = [part["provider"] for part in body["data"]]
    assert 2 <= len(providers) == len(set(providers)) <= FAN_OUT
    told = [part for part in body["data"] if "data" in part]
    assert len(told) >= 2
    assert {a["provider"] for a in body["meta"]["attempts"]} == set(providers)
    row = system.record(body["meta"]["request_id"])
    assert (row["status"], row["code"], row["mode"]) == (200, "ok", "test")
    assert (row["attempts"], row["units"] >= len(told)) == (len(providers), True)


@pytest.mark.parametrize("operation", LISTS)
def test_a_list_merged(system: System, document: dict[str, Any], operation: str) -> None:
    body = checked(document, operation, ask(system, operation, "merge"))
    sources = body["meta"]["sources"]
    assert len(sources) >= 2
    assert len(body["data"]) <= sum(source["items"] for source in sources)
    having = {provider for item in body["data"] for provider in item["sources"]}
    assert having == {source["provider"] for source in sources if source["items"]}
    assert body["page"]["next_cursor"] is None


@pytest.mark.parametrize("operation", FIGURES)
def test_a_figure_merged(system: System, document: dict[str, Any], operation: str) -> None:
    body = checked(document, operation, ask(system, operation, "merge"))
    figure = FIGURES[operation][1]
    counted = [s for s in body["meta"]["sources"] if "left_out" not in s]
    values = sorted(Decimal(source["value"]) for source in counted)
    assert len(values) >= 2
    assert values[0] <= Decimal(body["data"][figure]) <= values[-1]
    assert Decimal(body["data"]["spread"]) == values[-1] - values[0]


@pytest.mark.parametrize("operation", ASKED)
def test_the_fastest(system: System, document: dict[str, Any], operation: str) -> None:
    body = checked(document, operation, ask(system, operation, "fastest"))
    outcomes = [attempt["outcome"] for attempt in body["meta"]["attempts"]]
    assert (outcomes[-1], outcomes.count("ok")) == ("ok", 1)
    assert len(outcomes) >= 2


def test_one_that_fails_is_told_and_the_others_serve(system: System) -> None:
    plain = ask(system, "finance.fx_rate", "all").json()
    first = plain["data"][0]["provider"]
    fault = f"provider={first};status=503"
    for strategy in ("all", "merge", "fastest"):
        answer = ask(system, "finance.fx_rate", strategy, **{"x-sandbox-fault": fault})
        assert answer.status_code == 200, answer.text
        outcomes = {a["provider"]: a["outcome"] for a in answer.json()["meta"]["attempts"]}
        assert outcomes[first] != "ok"
    nobody = ask(system, "finance.fx_rate", "merge", **{"x-sandbox-fault": "status=503"})
    assert (nobody.status_code, nobody.json()["code"]) == (503, "provider_unavailable")
