"""An example as the request that the adapter makes for it, whichever step it shows."""

from __future__ import annotations

from typing import Any

from lib.problems import InvalidRequest
from providers.adapters.manifest import Manifest, ManifestAdapter, RecordMeter, decoding
from providers.adapters.manifest.stepping import SteppedMeter
from providers.call import Answer, Call, Further, Outcome, Upstream, UpstreamRequest, Verdict
from providers.catalogue import Example


def request_of(manifest: Manifest, example: Example, upstream: Upstream) -> UpstreamRequest:
    """Of a later step: what is sent once those before it have given what the example says."""
    adapter = ManifestAdapter(manifest)
    plan = manifest.operations[example.operation]
    if not example.given:
        return adapter.request(Call(example.operation, dict(example.params)), upstream)
    template = dict(plan.requests).get(example.step)
    if template is None:
        raise InvalidRequest(f"{example.operation} has no step {example.step}.")
    step = next((step for step in plan.earlier if step.name == example.step), None)
    return adapter.built(
        template,
        {**example.params, **example.given},
        upstream=upstream,
        rules=step.rules if step else None,
    )


def document_of(manifest: Manifest, example: Example) -> Any:
    return decoding.document(example.body(example.params), manifest.form)


def taken_apart(
    manifest: Manifest, example: Example, call: Call, outcome: Outcome
) -> Answer | Further:
    """What the meter makes of the answer to the example's request. Raises StreamFault."""
    plan = manifest.operations[example.operation]
    if not example.step:
        if plan.each and outcome.verdict is Verdict.OK:
            outcome = outcome._replace(document=[outcome.document])
        return RecordMeter(manifest, plan, call, given=example.given).whole(outcome, b"")
    upstream = Upstream(manifest.slug, manifest.base_url)
    meter = ManifestAdapter(manifest).meter(call, upstream)
    names = [step.name for step in plan.earlier]
    if not isinstance(meter, SteppedMeter) or example.step not in names:
        raise InvalidRequest(f"{example.operation} has no step {example.step}.")
    meter.records.given = example.given
    return meter.after(names.index(example.step), [outcome])


def gives(manifest: Manifest, example: Example, outcome: Outcome) -> dict[str, Any]:
    """What an earlier step's answer tells the later ones."""
    plan = manifest.operations[example.operation]
    upstream = Upstream(manifest.slug, manifest.base_url)
    call = Call(example.operation, dict(example.params))
    meter = ManifestAdapter(manifest).meter(call, upstream)
    step = next((step for step in plan.earlier if step.name == example.step), None)
    if step is None or not isinstance(meter, SteppedMeter):
        return {}
    return dict(meter.given_by(step, outcome) or {})
