"""One call that staff send to a provider, to see whether it answers."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from api.operation_examples import example_of
from api.pacing import TEST_CALLS, slow_down
from api.vitals import WORKER
from lib import audit
from lib.problems import Problem
from providers.models import Model, Provider
from providers.operations import Kind, registry
from tenants.keys import Mode

MOST_SHOWN: Final = 8 * 1024  # characters of an answer
MOST_TOKENS: Final = 16  # that a model is asked for, unless the form says another number, …
MOST_TOKENS_ASKED: Final = 256  # and never more than this
MOST_CHOICES: Final = 200


class JsonObject(forms.CharField):
    def clean(self, value: Any) -> dict[str, Any]:
        text = super().clean(value) or "{}"
        try:
            known = orjson.loads(text)  # as calls are read: no NaN, no number that is too long
        except ValueError:
            raise ValidationError("That is no JSON.") from None
        if not isinstance(known, dict):
            raise ValidationError("Write a JSON object.")
        return known


class CallForm(forms.Form):
    what = forms.ChoiceField(label="What to ask for", widget=UnfoldAdminSelectWidget)
    where = forms.ChoiceField(
        choices=[(Mode.TEST, "the sandbox's part of it: free"), (Mode.LIVE, "the provider itself")],
        widget=UnfoldAdminSelectWidget,
        help_text="A live call is real: it costs what it costs, and counts in limits and quotas.",
    )
    params = JsonObject(
        label="Parameters",
        max_length=10_000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "json", "rows": 6}),
        help_text="A JSON object. Empty: the operation's own example.",
    )

    def __init__(self, provider: Provider, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["what"].choices = served(provider)  # type: ignore[attr-defined]


def served(provider: Provider) -> list[tuple[str, str]]:
    """What may be asked of it and takes no file: an operation, with a model if it has any."""
    manifest = provider.manifest if isinstance(provider.manifest, dict) else {}
    known = [name for name in manifest.get("operations", ()) if name in registry()]
    if known:
        return [(name, name) for name in sorted(known)]
    models = Model.objects.filter(provider=provider, enabled=True).order_by("model_id")
    return [
        (f"{row.operation} {row.model_id}", f"{row.model_id} ({row.operation})")
        for row in models[:MOST_CHOICES]
        if (operation := registry().get(row.operation)) and operation.kind is not Kind.TRANSCRIPTION
    ]


def tried(request: HttpRequest, provider: Provider) -> dict[str, Any]:
    """The form, and what came of it where it was sent."""
    form = CallForm(provider, request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return {"form": form}
    said = form.cleaned_data
    operation, _, model_id = said["what"].partition(" ")
    params = _params(provider, operation, model_id, said["params"])
    try:
        slow_down(request, group="test-calls", rate=TEST_CALLS, tenant=f"staff:{request.user.pk}")
        answer = WORKER.ask(operation, params, Mode(said["where"]))
    except Problem as problem:
        return {"form": form, "fault": problem.detail}
    except TimeoutError:
        return {"form": form, "fault": "It did not end in time, and was hung up on."}
    result = _shown(answer)
    _tell(provider, said["what"], said["where"], result)
    return {"form": form, "asked": json.dumps(params, ensure_ascii=False), "result": result}


def _params(
    provider: Provider, operation: str, model_id: str, said: dict[str, Any]
) -> dict[str, Any]:
    """As the call is made: of this provider and no other, and of little."""
    params = said or example_of(registry()[operation])
    if registry()[operation].kind is Kind.DATA:
        params.pop("strategy", None)  # which asks several
        return params | {"provider": provider.slug, "fallback": False}
    params = params | {"model": f"{provider.slug}/{model_id}"}
    params.pop("n", None)
    if operation != "chat.completions":
        return params
    wanted = params.pop("max_completion_tokens", params.pop("max_tokens", MOST_TOKENS))
    least = min(wanted, MOST_TOKENS_ASKED) if isinstance(wanted, int) else wanted
    return params | {"max_tokens": least, "stream": False}


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    headers = answer["headers"]
    return {
        "status": answer["status"],
        "ok": 200 <= answer["status"] < 300,
        "milliseconds": answer["milliseconds"],
        "request_id": headers.get("x-request-id", ""),
        "provider": headers.get("x-patchbay-provider", ""),
        "cost": headers.get("x-patchbay-cost-microusd", ""),
        "body": _pretty(answer["body"])[:MOST_SHOWN],
    }


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _tell(provider: Provider, what: str, where: str, result: dict[str, Any]) -> None:
    told = {name: result[name] for name in ("status", "milliseconds", "request_id")}
    audit.event(
        "tried",
        kind="providers.provider",
        object_id=audit.object_id(provider),
        object_name=str(provider),
        after={"asked": what, "mode": where, **told},
    )
