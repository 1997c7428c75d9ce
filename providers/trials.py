"""What a provider's answer comes to, away from the data path: the adapter's verbs in a row.

For examples, for what staff try out, and for the calls that verify a provider. No I/O.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

import orjson

from providers.adapter import Adapter, StreamFault
from providers.adapters.manifest import ManifestAdapter
from providers.call import Answer, Call, Outcome, Upstream, Verdict
from providers.catalogue import CatalogueFile
from providers.dialects import adapter_for

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

    @property
    def drifted(self) -> bool:
        """The provider did not answer in the shape that its definition tells."""
        return self.verdict is Verdict.BAD_PAYLOAD

    def told(self) -> dict[str, Any]:
        """Whatever has a value."""
        names = ("verdict", "message", "retry_after", "data", "total", "text")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value not in (None, "")}

    def without(self, secret: str | None) -> Came:
        """The same, but for the secret."""
        message, data, text = _without([self.message, self.data, self.text], secret)
        return replace(self, message=message, data=data, text=text)


def without(text: str, secret: str | None) -> str:
    """The text without the secret, in any form in which it is sent: some providers say it back."""
    if not secret:
        return text
    encoded = base64.b64encode(secret.encode()).decode()
    for form in (secret, quote(secret, safe=""), encoded, orjson.dumps(secret).decode()[1:-1]):
        text = text.replace(form, "[secret]")
    return text


def _without(value: Any, secret: str | None) -> Any:
    """In all texts of a JSON value."""
    if isinstance(value, dict):
        return {without(name, secret): _without(each, secret) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, secret) for each in value]
    return without(value, secret) if isinstance(value, str) else value


def adapter_of(file: CatalogueFile) -> Adapter:
    return ManifestAdapter(file.manifest) if file.manifest else adapter_for(file.adapter)


def upstream_of(file: CatalogueFile, operation: str, secret: str | None = SHOWN) -> Upstream:
    """The far side as a definition alone tells it; of an AI provider, the operation's first
    model."""
    serving = (model["id"] for model in file.models if model["operation"] == operation)
    return Upstream(
        provider=file.slug,
        base_url=file.document["base_url"],
        model=next(serving, ""),
        secret=secret,
        settings=file.document.get("settings", {}),
    )


def call_of(operation: str, params: Mapping[str, Any], upstream: Upstream) -> Call:
    """Of an AI provider, a call that names the model."""
    named = {"model": upstream.model} if upstream.model else {}
    return Call(operation, named | dict(params))


def come_to(
    adapter: Adapter,
    call: Call,
    upstream: Upstream,
    reply: tuple[int, Mapping[str, str], bytes],
) -> Came:
    """What a reply (status, headers by lower-case name, body) comes to."""
    outcome = adapter.outcome(*reply)
    if not outcome.is_answer:
        return _ended(outcome)
    try:
        return _answered(outcome, adapter.meter(call, upstream).whole(outcome, reply[2]))
    except StreamFault as fault:
        return _ended(fault.outcome)


def _ended(outcome: Outcome) -> Came:
    return Came(outcome.verdict, outcome.message, outcome.retry_after)


def _answered(outcome: Outcome, answer: Answer) -> Came:
    if answer.body:
        document = orjson.loads(answer.body)
        return Came(outcome.verdict, data=document, text=_text(document))
    total = answer.page["total"] if answer.page else None
    return Came(outcome.verdict, data=answer.data, total=total)


def _text(completion: Any) -> str | None:
    """What the model wrote; None for vectors."""
    choices = completion.get("choices")
    return choices[0]["message"].get("content") if choices else None
