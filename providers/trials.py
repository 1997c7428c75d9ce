"""What a provider's answer comes to, away from the data path: the adapter's verbs in a row.

For examples, for what staff try out, and for the calls that verify a provider. No I/O.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final
from urllib.parse import quote

import orjson

from providers import exchanges
from providers.adapter import Adapter, StreamFault
from providers.adapters.manifest import ManifestAdapter
from providers.call import Answer, Call, Further, Outcome, Upstream, UpstreamRequest, Verdict
from providers.catalogue import CatalogueFile, Example
from providers.dialects import adapter_for
from providers.secret_form import parts_of

Reply = tuple[int, Mapping[str, str], bytes]
"""Status, headers by lower-case name, and body."""

SHOWN: Final = "YOUR-SECRET"
"""Stands for the secret in a request that is only shown."""


@dataclass(frozen=True, slots=True)
class Came:
    """How an attempt ended, in the words of an example's `expect`."""

    verdict: Verdict
    message: str = ""
    retry_after: float | None = None
    data: Any = None
    total: int | None = None
    text: str | None = None
    next: str | None = None
    gives: dict[str, Any] = field(default_factory=dict)  # what an earlier step tells later ones

    @property
    def drifted(self) -> bool:
        """The provider did not answer in the shape that its definition tells."""
        return self.verdict is Verdict.BAD_PAYLOAD

    def told(self) -> dict[str, Any]:
        """Whatever has a value."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, "", {})}

    def without(self, secrets: Iterable[str]) -> Came:
        """The same, but for the secret."""
        message, data, text = _without([self.message, self.data, self.text], tuple(secrets))
        return replace(self, message=message, data=data, text=text)


def without(text: str, secrets: Iterable[str]) -> str:
    """The text without these, in any form in which they are sent: some providers say them back."""
    for secret in filter(None, secrets):
        encoded = base64.b64encode(secret.encode()).decode()
        for form in (secret, quote(secret, safe=""), encoded, orjson.dumps(secret).decode()[1:-1]):
            text = text.replace(form, "[secret]")
    return text


def _without(value: Any, secrets: tuple[str, ...]) -> Any:
    """In all texts of a JSON value."""
    if isinstance(value, dict):
        return {without(name, secrets): _without(each, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, secrets) for each in value]
    return without(value, secrets) if isinstance(value, str) else value


def adapter_of(file: CatalogueFile) -> Adapter:
    return ManifestAdapter(file.manifest) if file.manifest else adapter_for(file.adapter)


def upstream_of(file: CatalogueFile, operation: str, secret: str | None = SHOWN) -> Upstream:
    """The far side as a definition alone tells it; of an AI provider, the operation's first
    model."""
    serving = (model["id"] for model in file.models if model["operation"] == operation)
    form = adapter_of(file).secret_form
    if secret == SHOWN:
        secret = form.of_the_sandbox(secret)
    return Upstream(
        provider=file.slug,
        base_url=file.document["base_url"],
        model=next(serving, ""),
        secret=secret,
        settings=file.document.get("settings", {}),
        parts=parts_of(secret or "") if form.parts else {},
        token=SHOWN,  # where one is shown; none is ever sent, see `try_live`
    )


def call_of(operation: str, params: Mapping[str, Any], upstream: Upstream) -> Call:
    """Of an AI provider, a call that names the model."""
    named = {"model": upstream.model} if upstream.model else {}
    return Call(operation, named | dict(params))


def conversation(
    adapter: Adapter, call: Call, upstream: Upstream, request: UpstreamRequest
) -> Generator[Sequence[UpstreamRequest], Sequence[Reply | Outcome], Came]:
    """What an attempt comes to. Gives the requests to send next, side by side, and is sent what
    came of each, in their order: a reply, or an outcome where there was none."""
    (first,) = yield [request]
    outcome = _judged(adapter, request, first)
    if not outcome.is_answer or isinstance(first, Outcome):
        return _ended(outcome)
    try:
        answer = adapter.meter(call, upstream).whole(outcome, first[2])
        while isinstance(answer, Further):
            asked = answer.requests
            replies = yield asked
            pairs = zip(asked, replies, strict=True)
            answer = answer.then([_judged(adapter, sent, reply) for sent, reply in pairs])
    except StreamFault as fault:
        return _ended(fault.outcome)
    return _answered(outcome, answer)


def of_example(file: CatalogueFile, example: Example, call: Call, upstream: Upstream) -> Came:
    """What an example's answer comes to, whichever step of its operation it shows."""
    adapter = adapter_of(file)
    request = request_of_example(file, example, call, upstream)
    headers = {**example.headers, "content-type": example.content_type}
    outcome = _judged(adapter, request, (example.status, headers, example.body(call.params)))
    if not outcome.is_answer:
        return _ended(outcome)
    try:
        if file.manifest is None:
            answer = adapter.meter(call, upstream).whole(outcome, example.body(call.params))
        else:
            answer = exchanges.taken_apart(file.manifest, example, call, outcome)
            if isinstance(answer, Further) or example.step:
                return Came(outcome.verdict, gives=exchanges.gives(file.manifest, example, outcome))
    except StreamFault as fault:
        return _ended(fault.outcome)
    return Came(outcome.verdict) if isinstance(answer, Further) else _answered(outcome, answer)


def request_of_example(
    file: CatalogueFile, example: Example, call: Call, upstream: Upstream
) -> UpstreamRequest:
    """Raises InvalidRequest, Unsupported."""
    if file.manifest is None:
        return adapter_of(file).request(call, upstream)
    return exchanges.request_of(file.manifest, replace(example, params=call.params), upstream)


def _judged(adapter: Adapter, request: UpstreamRequest, reply: Reply | Outcome) -> Outcome:
    if isinstance(reply, Outcome):
        return reply
    return (request.judge or adapter.outcome)(*reply)


def _ended(outcome: Outcome) -> Came:
    return Came(outcome.verdict, outcome.message, outcome.retry_after)


def _answered(outcome: Outcome, answer: Answer) -> Came:
    if answer.body:
        document = orjson.loads(answer.body)
        return Came(outcome.verdict, data=document, text=_text(document))
    page = answer.page or {}
    return Came(
        outcome.verdict, data=answer.data, total=page.get("total"), next=page.get("next_cursor")
    )


def _text(completion: Any) -> str | None:
    """What the model wrote; None for vectors."""
    choices = completion.get("choices")
    return choices[0]["message"].get("content") if choices else None
