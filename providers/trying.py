"""One call tried out by staff: the request as the definition makes it, the provider's own answer,
and what that comes to. Against an example, the sandbox's part of the provider, or the provider."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from lib.problems import InvalidRequest
from providers.asking import Ask, Asked, ask_all
from providers.call import Call, Upstream, UpstreamRequest
from providers.catalogue import CatalogueFile, Example
from providers.check_budget import require_budget
from providers.definition_models import Check
from providers.models import Provider
from providers.operations import registry, validate
from providers.sandbox.dialects.dialect import Refused, Request
from providers.sandbox.examples import DataProvider
from providers.trials import (
    SHOWN,
    Came,
    Reply,
    adapter_of,
    call_of,
    conversation,
    of_example,
    request_of_example,
    upstream_of,
    without,
)
from providers.verification import house_secret, record, refuse_grant

MOST_SHOWN: Final = 16 * 1024  # characters of an answer
MAX_TOKENS: Final = 256  # a model is asked for, where nobody says


@dataclass(frozen=True, slots=True)
class Trial:
    """What is shown of a call. `request` holds a word in the secret's place; `milliseconds` is
    None where nothing was sent."""

    request: UpstreamRequest
    came: Came
    status: int = 0
    raw: str = ""
    milliseconds: int | None = None

    def as_document(self) -> dict[str, Any]:
        sent = self.request
        return {
            "request": {
                "method": sent.method,
                "url": sent.url,
                "headers": dict(sent.headers),
                "body": (sent.body or b"").decode("utf-8", "replace")[:MOST_SHOWN] or None,
            },
            "response": {"status": self.status, "body": self.raw},
            "canonical": self.came.told(),
            "milliseconds": self.milliseconds,
        }


@dataclass(frozen=True, slots=True)
class Question:
    """An operation with its parameters, of the provider that a definition tells. Raises
    InvalidRequest where the operation does not take them, or the definition cannot say them."""

    file: CatalogueFile
    operation: str
    params: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_served(self.file, self.operation)
        validate(registry()[self.operation], self.call(self.upstream(None)).params)

    def upstream(self, secret: str | None, base_url: str = "") -> Upstream:
        told = upstream_of(self.file, self.operation, secret)
        return replace(
            told,
            base_url=base_url or told.base_url,
            settings={**told.settings, **self.settings},
            now=time.time(),
        )

    def call(self, upstream: Upstream) -> Call:
        bound = {"max_tokens": MAX_TOKENS} if self.operation == "chat.completions" else {}
        return call_of(self.operation, bound | dict(self.params), upstream)

    def ask(self, upstream: Upstream, *, allow_private: bool = False) -> Ask:
        adapter, call = adapter_of(self.file), self.call(upstream)
        return Ask(adapter, call, upstream, adapter.request(call, upstream), allow_private)

    def shown(self) -> UpstreamRequest:
        return self.ask(self.upstream(SHOWN)).request


def require_served(file: CatalogueFile, operation: str) -> None:
    """Raises InvalidRequest."""
    if operation not in file.operations:
        raise InvalidRequest(f"{file.slug} serves {', '.join(file.operations)}.", param="operation")


def try_example(question: Question, example: Example) -> Trial:
    """What an example's answer comes to."""
    upstream = question.upstream(SHOWN)
    call = question.call(upstream)
    request = request_of_example(question.file, example, call, upstream)
    came = of_example(question.file, example, call, upstream)
    return Trial(request, came, example.status, _text(example.body(question.params)))


def try_sandbox(question: Question, examples: Sequence[Example]) -> Trial:
    """What the sandbox answers by these examples; an AI provider's part it plays itself."""
    manifest = question.file.manifest
    if manifest is None:
        return _try_running_sandbox(question)
    ask = question.ask(question.upstream(SHOWN))
    played = DataProvider(manifest, tuple(examples), needs_credential=False)
    talk = conversation(ask.adapter, ask.call, ask.upstream, ask.request)
    requests, first = next(talk), None
    while True:
        replies = [_played(played, request) for request in requests]
        first = first or replies[0]
        try:
            requests = talk.send(replies)
        except StopIteration as end:
            return Trial(ask.request, end.value, first[0], _text(first[2]))


def _played(provider: DataProvider, sent: UpstreamRequest) -> Reply:
    """What the sandbox answers to a request. A token is taken whatever it is."""
    parts = urlsplit(sent.url)
    headers = {name.lower(): text for name, text in sent.headers.items()}
    body = sent.body or b""
    asked = Request(provider.name, sent.method, parts.path, parts.query, headers, body)
    operation = provider.operation(asked) or ""
    try:
        if not operation:
            raise Refused(404, "None of the definition's requests is like this one.")
        answer = provider.answer(asked, operation)
    except Refused as refused:
        answer = provider.refusal(asked, refused, operation)
    return answer.status, {**answer.headers, "content-type": answer.content_type}, answer.body


def try_live(question: Question, *, provider: Provider | None, by: str, secret: str = "") -> Trial:
    """One real call, counted among the provider's verifications. Raises RateLimited, and
    InvalidRequest where there is no secret that may be sent there."""
    require_budget(question.file.slug)
    refuse_grant(adapter_of(question.file), question.file.slug)
    known = secret or _secret(question.file, provider)
    if not known and question.file.needs_credential:
        raise InvalidRequest(
            f"{question.file.slug} needs a credential. Give the provider one that works."
        )
    ask = question.ask(
        question.upstream(known or None),
        allow_private=provider is not None and provider.allow_private_network,
    )
    (asked,) = ask_all([ask])
    record(question.file.slug, ask, asked, kind=Check.Kind.TRIAL, by=by)
    return _shown(question, asked, ask.upstream.secrets)


def _secret(file: CatalogueFile, provider: Provider | None) -> str:
    """A secret goes where its provider is, and nowhere that a draft may name."""
    if provider is None:
        return ""
    secret, _ = house_secret(provider)
    if secret and _origin(file.document["base_url"]) != _origin(provider.base_url):
        raise InvalidRequest(
            f"base_url leads elsewhere than that of {file.slug}, whose secret is not sent there. "
            "Try it against an example, or activate the definition first."
        )
    return secret or ""


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _try_running_sandbox(question: Question) -> Trial:
    where = settings.ENV.SANDBOX_URL.rstrip("/")
    if not where:
        raise InvalidRequest("No sandbox runs (SANDBOX_URL). Try it against an example.")
    path = urlsplit(question.file.document["base_url"]).path.rstrip("/")
    upstream = question.upstream("sandbox-secret", f"{where}/{question.file.slug}{path}")
    (asked,) = ask_all([question.ask(upstream, allow_private=True)])
    return _shown(question, asked, ())


def _shown(question: Question, asked: Asked, secrets: Sequence[str]) -> Trial:
    """Nothing of it holds the secret, also where the provider says it back."""
    text = _text(asked.body)
    came = asked.came.without(secrets)
    return Trial(question.shown(), came, asked.status, without(text, secrets), asked.milliseconds)


def _text(body: bytes) -> str:
    return body[: MOST_SHOWN * 4].decode("utf-8", "replace")[:MOST_SHOWN]
