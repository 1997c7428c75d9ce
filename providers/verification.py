"""Providers are asked now and then whether they still answer as their definitions tell.

With a real call, in the worker: a data provider what its definition names as `verification`, an
AI provider for its list of models, which costs nothing. What comes is kept, and an answer in
another shape is a *drift*: told until the next good answer. Breakers and credentials take no notice
of it: they judge by callers' calls, and one call of ours an hour says less than theirs.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q
from django.utils import timezone

from lib.problems import InvalidRequest, NotFound, Problem
from lib.sealing import SealBroken
from providers import snapshot
from providers.adapter import Adapter
from providers.asking import Ask, Asked, ask_all
from providers.call import Call, Upstream, UpstreamRequest, Verdict
from providers.check_budget import KEPT, require_budget, within_budget, within_share
from providers.definition_models import Check, Drift
from providers.models import Credential, Model, Provider
from providers.secret_form import parts_of
from providers.snapshot import ProviderSpec
from providers.trials import without

log = structlog.get_logger("patchbay.verification")

AT_ONCE: Final = 8
LISTINGS: Final = {"openai": "/models", "anthropic": "/models", "gemini": "/models"}
GOOD: Final = frozenset({Verdict.OK, Verdict.EMPTY, Verdict.NOT_FOUND})
_ANY_QUESTION: Final[Mapping[str, Any]] = {
    "chat.completions": {"messages": [{"role": "user", "content": "."}]},
    "embeddings": {"input": "."},
}


def verify_due() -> int:
    """Verify the providers whose turn it is, those that waited longest first; how many were."""
    if settings.ENV.VERIFY_PROVIDERS == "off":
        return 0
    due: list[tuple[Provider, Ask]] = []
    for provider in _waiting(timezone.now()):
        if len(due) == AT_ONCE:
            break
        if within_budget(provider.slug) and within_share(provider) and (ask := _usable(provider)):
            due.append((provider, ask))
    for (provider, ask), asked in zip(due, ask_all([ask for _, ask in due]), strict=True):
        record(provider.slug, ask, asked, kind=Check.Kind.VERIFICATION, by="worker")
    return len(due)


def verify(*, provider: Provider, by: str) -> Check:
    """Verify it now. Raises RateLimited where it was sent enough lately, NotFound for one that
    there is no way to verify, and InvalidRequest for one that cannot be called."""
    require_budget(provider.slug)
    ask = _ask(provider)
    (asked,) = ask_all([ask])
    return record(provider.slug, ask, asked, kind=Check.Kind.VERIFICATION, by=by)


@transaction.atomic
def record(slug: str, ask: Ask, asked: Asked, *, kind: Check.Kind, by: str) -> Check:
    """Keep what came, and what it says of drift."""
    check = Check.objects.create(
        slug=slug,
        kind=kind,
        operation="models" if ask.listing else ask.call.operation,
        verdict=asked.came.verdict,
        status=asked.status,
        latency_ms=asked.milliseconds,
        drift=asked.came.drifted,
        message=without(asked.came.message, ask.upstream.secrets)[:300],
        by=by[:100],
    )
    if kind is Check.Kind.VERIFICATION:
        _judge(check)
    old = Check.objects.filter(slug=slug).order_by("-pk")[KEPT : KEPT + 1]
    for last in old:
        Check.objects.filter(slug=slug, pk__lte=last.pk).delete()
    return check


def house_secret(provider: Provider) -> tuple[str | None, str]:
    """The house's first secret that the provider did not refuse, and its name."""
    held = Credential.objects.filter(provider=provider, tenant=None, enabled=True, drained_at=None)
    for row in held.order_by("pk"):
        with suppress(SealBroken):
            return row.secret(), row.public_id
    return None, ""


def refuse_grant(adapter: Adapter, slug: str) -> None:
    """Raises NotFound for a provider whose calls carry a token: to get one is a gateway's part."""
    if adapter.grant is not None:
        raise NotFound(f"{slug} wants a token for each call, which only gateways ask it for.")


def _waiting(now: dt.datetime) -> list[Provider]:
    """Enabled providers that may be verified, and were not for long enough."""
    held = Credential.objects.filter(
        provider=OuterRef("pk"), tenant=None, enabled=True, drained_at=None
    )
    usable = Q(Exists(held))
    if settings.ENV.VERIFY_PROVIDERS == "all":
        usable |= Q(needs_credential=False)
    verified = Check.objects.filter(kind=Check.Kind.VERIFICATION).values_list("slug")
    last = dict(verified.annotate(last=Max("created_at")))
    pause = dt.timedelta(minutes=settings.ENV.VERIFY_EVERY_MINUTES)
    never = now - dt.timedelta(days=36500)
    rows = Provider.objects.filter(usable, enabled=True)
    waiting = [row for row in rows if last.get(row.slug, never) <= now - pause]
    return sorted(waiting, key=lambda row: (last.get(row.slug, never), row.slug))


def _usable(provider: Provider) -> Ask | None:
    try:
        return _ask(provider)
    except Problem as problem:
        log.debug("not_verified", provider=provider.slug, reason=problem.detail)
        return None


def _ask(provider: Provider) -> Ask:
    """Raises NotFound, InvalidRequest."""
    spec = _working(provider)
    refuse_grant(spec.adapter, spec.slug)
    secret, credential = house_secret(provider)
    if secret is None and spec.needs_credential:
        raise InvalidRequest(f"{spec.slug} has no credential that works. Add one.")
    if provider.adapter != "manifest":
        return _listing(spec, secret, credential)
    said = spec.manifest["verification"]
    upstream = _upstream(spec, secret, credential)
    call = Call(said["operation"], dict(said["params"]))
    request = spec.adapter.request(call, upstream)
    return Ask(spec.adapter, call, upstream, request, spec.allow_private_network)


def _working(provider: Provider) -> ProviderSpec:
    """Raises InvalidRequest for a row that cannot work."""
    try:
        return snapshot.spec_of(provider)
    except Exception as error:
        log.warning("row_unusable", provider=provider.slug, reason=type(error).__name__)
        raise InvalidRequest(
            f"{provider.slug} cannot be called as its row is. Activate a definition that works."
        ) from None


def _listing(spec: ProviderSpec, secret: str | None, credential: str) -> Ask:
    """The request of a call, for its headers and query, turned to the list of models."""
    models = Model.objects.filter(provider__slug=spec.slug, operation__in=_ANY_QUESTION)
    model = models.filter(enabled=True).order_by("pk").first()
    path = LISTINGS.get(spec.adapter.name)
    if model is None or path is None:
        raise NotFound(f"Nothing is free at {spec.slug} to verify it by.")
    upstream = replace(_upstream(spec, secret, credential), model=model.model_id)
    call = Call(model.operation, {"model": model.model_id, **_ANY_QUESTION[model.operation]})
    made = spec.adapter.request(call, upstream)
    _, mark, query = made.url.partition("?")
    headers = {name: text for name, text in made.headers.items() if name != "content-type"}
    request = UpstreamRequest("GET", f"{spec.base_url}{path}{mark}{query}", headers)
    return Ask(spec.adapter, call, upstream, request, spec.allow_private_network, listing=True)


def _upstream(spec: ProviderSpec, secret: str | None, credential: str) -> Upstream:
    return Upstream(
        provider=spec.slug,
        base_url=spec.base_url,
        secret=secret,
        settings=spec.settings,
        manifest=spec.manifest,
        credential=credential,
        parts=parts_of(secret or "") if spec.adapter.secret_form.parts else {},
        now=time.time(),
    )


def _judge(check: Check) -> None:
    """A drift begins with the first answer that does not map, and ends with the next good one;
    an error in between says nothing of shapes."""
    known = Drift.objects.filter(slug=check.slug)
    if check.verdict in GOOD:
        if known.exists():
            known.delete()
            log.info("provider_drift_cleared", provider=check.slug)
        return
    if not check.drift:
        return
    told = {"operation": check.operation, "message": check.message, "last_at": check.created_at}
    if not known.update_quietly(**told):
        Drift.objects.create(slug=check.slug, since=check.created_at, **told)
        log.warning("provider_drift", provider=check.slug, operation=check.operation)
