"""The five verbs for Anthropic's Messages API.

A provider row's `settings` may hold `headers`, sent with every request (`anthropic-beta`, say,
or another `anthropic-version`).
"""

from __future__ import annotations

from collections.abc import Mapping

from lib.problems import Problem
from providers import openai_wire as wire
from providers.adapter import Meter, Spoken, Unsupported
from providers.adapters.anthropic.meter import AnthropicMeter
from providers.adapters.anthropic.outcome import outcome_of
from providers.adapters.anthropic.request import chat_body
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.translation import encoded

VERSION = "2023-06-01"  # the only version of the API; new fields come as additions


class AnthropicAdapter(Spoken):
    """/v1/messages for `chat.completions`; Anthropic has no embeddings."""

    name = "anthropic"

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported or InvalidRequest."""
        if call.operation != "chat.completions":
            raise Unsupported("model", f"{upstream.provider} does not serve {call.operation}.")
        headers = {"content-type": "application/json", "anthropic-version": VERSION}
        if upstream.secret:
            headers["x-api-key"] = upstream.secret
        headers |= {k.lower(): v for k, v in upstream.settings.get("headers", {}).items()}
        return UpstreamRequest("POST", _url(upstream), headers, encoded(chat_body, call, upstream))

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        return AnthropicMeter(call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)


def _url(upstream: Upstream) -> str:
    """Anthropic's own SDKs take a base without `/v1`, most others write it; both are meant."""
    base = upstream.base_url.rstrip("/").removesuffix("/v1")
    return f"{base}/v1/messages"
