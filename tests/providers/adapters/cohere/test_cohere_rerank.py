"""Cohere ranks by the search: its answers in the common shape, billed by what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.adapter import Unsupported
from providers.adapters.cohere import ADAPTER
from providers.call import Call, Upstream, Usage

FOLDER = Path(__file__).parents[5] / "shared/recordings/ai/cohere"
UPSTREAM = Upstream("cohere", "https://c.example", "rerank-v3.5", "key")


def call(**params: Any) -> Call:
    asked = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}], **params}
    return Call("rerank", asked, request_id="r")


def test_the_request() -> None:
    request = ADAPTER.request(call(top_n=1, return_documents=True), UPSTREAM)
    assert request.url == "https://c.example/v2/rerank"
    assert orjson.loads(request.body or b"") == {
        "model": "rerank-v3.5",
        "query": "q",
        "documents": ["a", "b"],
        "top_n": 1,
    }
    with pytest.raises(Unsupported):
        ADAPTER.request(call(rank_fields=["x"]), UPSTREAM)


@pytest.mark.parametrize("name", ["orders-documents", "rerank"])
def test_recordings(name: str) -> None:
    told = json.loads((FOLDER / f"ai.rerank--{name}.json").read_text())["response"]["body"]
    body = orjson.dumps(told)
    meter = ADAPTER.meter(call(), UPSTREAM)
    answer = orjson.loads(meter.whole(ADAPTER.outcome(200, {}, body), body).body)
    assert answer["results"] == told["results"]
    assert answer["meta"]["billed_units"] == {"search_units": 1}
    assert (answer["model"], answer["id"]) == ("rerank-v3.5", told["id"])
    assert meter.usage == Usage(units=1)
