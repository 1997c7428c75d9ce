"""Ranked documents in the one shape that clients see: Cohere's and Jina's, with OpenAI's usage.

Documents are never asked back of a provider: what each was is known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from providers import amounts
from providers import openai_wire as wire
from providers.call import Answer, Call, Usage
from providers.whole import WholeMeter, tokens_told

OURS = frozenset({"documents", "return_documents", "stream"})  # fields that no provider is sent


def texts(call: Call) -> list[str]:
    return [amounts.text_of(document) for document in call.params["documents"]]


class RerankMeter(WholeMeter):
    """`results` or `data` is a list of places and scores; `meta.billed_units` tells searches,
    `usage` tells tokens."""

    def _read(self, document: Any, body: bytes) -> Answer:
        results = document["results"] if "results" in document else document["data"]
        asked = texts(self._call)
        ranked = [_result(each, asked) for each in results]
        if len({each["index"] for each in ranked}) != len(ranked):
            raise ValueError("a document came twice")
        told = _told(document)
        self.usage = told or amounts.of_rerank(self._call)
        return Answer(orjson.dumps(self._answer(document, ranked, told or _likely(asked))))

    def _answer(
        self, document: Mapping[str, Any], ranked: list[dict[str, Any]], usage: Usage
    ) -> dict[str, Any]:
        params, tokens = self._call.params, usage.input_tokens
        ranked.sort(key=lambda each: float(each["relevance_score"]), reverse=True)
        if not params.get("return_documents"):
            for each in ranked:
                del each["document"]
        answer = {
            "id": str(document.get("id") or f"rerank-{self._call.request_id}"),
            "object": "rerank",
            "model": self._upstream.model,
            "results": ranked[: params.get("top_n") or len(ranked)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        if usage.units:
            answer["meta"] = {"billed_units": {"search_units": usage.units}}
        return answer


def _result(told: Mapping[str, Any], asked: Sequence[str]) -> dict[str, Any]:
    index, score = told["index"], float(told["relevance_score"])
    if type(index) is not int or not 0 <= index < len(asked) or not math.isfinite(score):
        raise ValueError("no such document, or no score")
    return {"index": index, "relevance_score": score, "document": {"text": asked[index]}}


def _told(document: Mapping[str, Any]) -> Usage | None:
    billed = (document.get("meta") or {}).get("billed_units") or {}
    searches = billed.get("search_units")
    if isinstance(searches, int | float) and 0 < searches < wire.ABSURD:
        return Usage(units=math.ceil(searches))
    return tokens_told(document.get("usage"))


def _likely(asked: Sequence[str]) -> Usage:
    return Usage(sum(map(len, asked)) // wire.BYTES_PER_TOKEN, estimated=True)
