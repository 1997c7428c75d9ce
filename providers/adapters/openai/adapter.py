"""Requests in OpenAI's dialect: the client's own bytes wherever nothing must change.

A provider row's `settings` say what a service does differently (all optional):

    auth                  {"header": "api-key", "prefix": ""}; default Authorization: Bearer
    headers, query        sent with every request, e.g. {"api-version": "2025-01-01"}
    paths                 {"chat.completions": "/chat/completions", "embeddings": "/embeddings"}
    refused_parameters    fields the service refuses: the next target may take them
    unsent_of_answers     fields that earlier answers in a conversation have and it refuses, such as
                          reasoning_content: they are left out, being no input to it
    renamed_parameters    its names for fields that are no chat's: {"top_n": "top_k"}
    usual_values          what it does anyway and takes no word about: {"encoding_format": "float"}
    max_tokens_parameter  its name for the output limit: max_tokens | max_completion_tokens
    stream_usage          false where stream_options is not known (no count at a stream's end)
    done_marker           false where a stream ends without `[DONE]`: with its count, or with its
                          finish where stream_usage is false too
    image_formats         its words for response_format: {"url": "url", "b64_json": "base64"}; null
                          where it gives that unasked; what is not named it does not give
    image_sizes           width_height where it takes two numbers instead of `size`
    transcript_details    how it is asked for times: asked (by verbose_json), always (the length is
                          told in no other form), granularities (by them alone)
    plain_transcripts     models that tell no times
    least_audio_seconds   what a shorter recording is billed as
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from lib.problems import InvalidRequest, Problem
from providers import amounts
from providers import openai_wire as wire
from providers.adapter import Meter, Spoken, Unsupported
from providers.adapters.openai.embeddings import EmbeddingsMeter
from providers.adapters.openai.fields import GONE, changes_of, renamed, without_told
from providers.adapters.openai.meter import ChatMeter
from providers.adapters.openai.objects import ImagesMeter, ModerationMeter
from providers.adapters.openai.outcome import outcome_of
from providers.adapters.openai.transcription import TranscriptionMeter, form
from providers.annotations import plain
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.reranking import RerankMeter
from providers.sound import SoundMeter

_CHAT = "chat.completions"
_PATHS = {
    _CHAT: "/chat/completions",
    "embeddings": "/embeddings",
    amounts.RERANK: "/rerank",
    amounts.MODERATIONS: "/moderations",
    amounts.IMAGES: "/images/generations",
    amounts.SPEECH: "/audio/speech",
    amounts.TRANSCRIPTIONS: "/audio/transcriptions",
}
_METERS: Mapping[str, Callable[[Call, Upstream], Meter]] = {
    "embeddings": EmbeddingsMeter,
    amounts.RERANK: RerankMeter,
    amounts.MODERATIONS: ModerationMeter,
    amounts.IMAGES: ImagesMeter,
    amounts.SPEECH: lambda call, _: SoundMeter(call),
    amounts.TRANSCRIPTIONS: TranscriptionMeter,
}
_LIMITS = ("max_tokens", "max_completion_tokens")


class OpenAIAdapter(Spoken):
    name = "openai"

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported or InvalidRequest."""
        if call.file is not None:
            _refuse(call.params, upstream)
            kind, body = form(call, upstream)
            headers = {**_headers(upstream), "content-type": kind}
            return UpstreamRequest("POST", _url(call, upstream), headers, body)
        if call.annotated:
            call = plain(call)
        try:
            body = _body(call, upstream)
        except (TypeError, ValueError):
            raise InvalidRequest("A field has a wrong type, or is nested too deeply.") from None
        return UpstreamRequest("POST", _url(call, upstream), _headers(upstream), body)

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        if call.operation == _CHAT:
            return ChatMeter(call, upstream)
        return _METERS[call.operation](call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)


def _body(call: Call, upstream: Upstream) -> bytes:
    changes = _changes(call, upstream) if upstream.settings else _common_changes(call, upstream)
    if call.operation != _CHAT:
        changes |= changes_of(call, upstream)
        if upstream.settings:
            changes = renamed(call.params, changes, upstream.settings)
    if call.body and not changes:
        return call.body
    merged = call.params | changes
    for name in [name for name, value in changes.items() if value is GONE]:
        del merged[name]
    return orjson.dumps(merged)


def _common_changes(call: Call, upstream: Upstream) -> dict[str, Any]:
    """The model's own name, and the count at a stream's end that we bill by."""
    changes: dict[str, Any] = {}
    if call.params.get("model") != upstream.model:
        changes["model"] = upstream.model
    if call.stream and not call.wants_usage_chunk:
        options = call.params.get("stream_options") or {}
        changes["stream_options"] = {**options, "include_usage": True}
    return changes


def _changes(call: Call, upstream: Upstream) -> dict[str, Any]:
    """As `_common_changes`, with what this service's settings say."""
    settings, params = upstream.settings, call.params
    _refuse(params, upstream)
    changes = _common_changes(call, upstream)
    if settings.get("stream_usage", True) is False:
        changes.pop("stream_options", None)
        if "stream_options" in params:
            changes["stream_options"] = GONE
    changes |= without_told(params, settings.get("unsent_of_answers", ()))
    return changes | _renamed_limit(params, settings.get("max_tokens_parameter"))


def _refuse(params: Mapping[str, Any], upstream: Upstream) -> None:
    for field in upstream.settings.get("refused_parameters", ()):
        if params.get(field) is not None:
            raise Unsupported(field, f"{upstream.provider} does not take {field!r}.")


def _renamed_limit(params: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    if name not in _LIMITS:
        return {}
    (other,) = (limit for limit in _LIMITS if limit != name)
    if params.get(other) is None:
        return {}
    both = [params[limit] for limit in _LIMITS if params.get(limit) is not None]
    return {other: GONE, name: min(both)}


def _url(call: Call, upstream: Upstream) -> str:
    settings = upstream.settings
    path = _PATHS.get(call.operation)
    if settings:
        path = settings.get("paths", {}).get(call.operation, path)
    if path is None:
        raise Unsupported("model", f"{upstream.provider} does not serve {call.operation}.")
    if "{" in path:
        path = path.replace("{model}", quote(upstream.model, safe=""))
    url = upstream.base_url.rstrip("/") + path
    query = settings.get("query") if settings else None
    return f"{url}?{urlencode(query)}" if query else url


def _headers(upstream: Upstream) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    settings = upstream.settings
    auth = settings.get("auth", {}) if settings else {}
    if upstream.secret is not None:
        prefix = auth.get("prefix", "Bearer ")
        headers[auth.get("header", "authorization").lower()] = f"{prefix}{upstream.secret}"
    if settings:
        headers |= {name.lower(): value for name, value in settings.get("headers", {}).items()}
    return headers
