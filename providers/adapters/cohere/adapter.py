"""The five verbs for Cohere's API, version 2."""

from __future__ import annotations

from collections.abc import Mapping

from lib.problems import Problem
from providers import amounts
from providers import openai_wire as wire
from providers.adapter import Meter, Spoken
from providers.adapters.cohere.meter import CohereChatMeter, CohereEmbeddingsMeter
from providers.adapters.cohere.outcome import outcome_of
from providers.adapters.cohere.request import chat_body, embeddings_body, rerank_body
from providers.annotations import plain
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.reranking import RerankMeter
from providers.translation import encoded

_PATHS = {
    "chat.completions": ("chat", chat_body),
    "embeddings": ("embed", embeddings_body),
    amounts.RERANK: ("rerank", rerank_body),
}


class CohereAdapter(Spoken):
    """/v2/chat for `chat.completions`, /v2/embed for `embeddings`, /v2/rerank for `rerank`."""

    name = "cohere"

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported or InvalidRequest."""
        if call.annotated:
            call = plain(call)
        path, build = _PATHS[call.operation]
        headers = {"content-type": "application/json"}
        if upstream.secret:
            headers["authorization"] = f"Bearer {upstream.secret}"
        url = f"{upstream.base_url.rstrip('/')}/v2/{path}"
        return UpstreamRequest("POST", url, headers, encoded(build, call, upstream))

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        if call.operation == amounts.RERANK:
            return RerankMeter(call, upstream)
        if call.operation == "embeddings":
            return CohereEmbeddingsMeter(call, upstream)
        return CohereChatMeter(call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)
