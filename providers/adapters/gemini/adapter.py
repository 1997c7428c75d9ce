"""The five verbs for Google's Gemini API (v1beta)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from lib.problems import Problem
from providers import openai_wire as wire
from providers.adapter import Meter, Spoken
from providers.adapters.gemini.meter import GeminiChatMeter, GeminiEmbeddingsMeter
from providers.adapters.gemini.outcome import outcome_of
from providers.adapters.gemini.request import chat_body, embeddings_body, model_path
from providers.annotations import plain
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.translation import encoded


class GeminiAdapter(Spoken):
    """generateContent for `chat.completions`, batchEmbedContents for `embeddings`."""

    name = "gemini"

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported or InvalidRequest. The key goes in a header: a URL ends up in logs."""
        if call.annotated:
            call = plain(call)
        if call.operation == "embeddings":
            method, build = "batchEmbedContents", embeddings_body
        else:
            build = chat_body
            method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        headers = {"content-type": "application/json"}
        if upstream.secret:
            headers["x-goog-api-key"] = upstream.secret
        model = quote(model_path(upstream.model))
        url = f"{upstream.base_url.rstrip('/')}/{model}:{method}"
        return UpstreamRequest("POST", url, headers, encoded(build, call, upstream))

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        if call.operation == "embeddings":
            return GeminiEmbeddingsMeter(call, upstream)
        return GeminiChatMeter(call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)
