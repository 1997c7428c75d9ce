"""Writes to providers and credentials: DRF, the admin and commands all come here."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from lib.sealing import SealBroken
from providers.adapters.manifest import ManifestError
from providers.dialects import adapter_for
from providers.models import BreakerOverride, Credential, Model, Provider, Route
from providers.secret_form import ONE_TEXT, SecretForm
from providers.warm_models import WarmRequest

log = structlog.get_logger("patchbay.providers")


@transaction.atomic
def add_providers(rows: Sequence[Provider]) -> None:
    """New ones, all at once, of which each manifest is known to be sound."""
    if rows:
        Provider.objects.bulk_create(rows)
        WarmRequest.declare(rows)


@transaction.atomic
def switch_provider(*, provider: Provider, enabled: bool) -> Provider:
    """On or off, in force on every worker within a second."""
    provider.enabled = enabled
    provider.save(update_fields=["enabled"])
    return provider


def drain_credential(*, public_id: str, secret: str, reason: str) -> None:
    """The provider refused it: no worker uses it from a second on until staff say so. Where it
    has another secret by now, or is gone, or drained already, nothing happens."""
    row = Credential.objects.filter(public_id=public_id, drained_at=None).first()
    if row is None or not _holds(row, secret):
        return
    unchanged = Credential.objects.filter(pk=row.pk, sealed=row.sealed, drained_at=None)
    unchanged.update(drained_at=timezone.now(), drained_reason=reason[:200])


@transaction.atomic
def set_credential_aside(*, credential: Credential, reason: str) -> Credential:
    """Staff drain it: no worker uses it from a second on until they say so."""
    credential.drained_at, credential.drained_reason = timezone.now(), reason[:200]
    credential.save(update_fields=["drained_at", "drained_reason"])
    return credential


@transaction.atomic
def use_credential_again(*, credential: Credential) -> Credential:
    """Whatever the provider had against it has been put right."""
    credential.use_again()
    credential.save(update_fields=["drained_at", "drained_reason"])
    return credential


def note_warmed(request_id: int, outcome: str) -> None:
    """A warm request was run now, with this outcome; no worker need be told."""
    rows = WarmRequest.objects.filter(pk=request_id)
    rows.update_quietly(ran_at=timezone.now(), outcome=outcome[:32])


@transaction.atomic
def warm_now(*, request: WarmRequest, by: str, user: User | None = None) -> WarmRequest:
    """Have a gateway ask it within a second or two, unless its answer stays fresh for a period
    anyway. Raises ValidationError for one that is switched off."""
    if not WarmRequest.running().filter(pk=request.pk).exists():
        raise ValidationError(f"{request.name} is switched off, or its provider is.")
    request.asked_at = timezone.now()
    request.save(update_fields=["asked_at"])
    log.info("warm_request_asked", name=request.name, by=by)
    if user is not None:
        rows = WarmRequest.objects.filter(pk=request.pk)
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, "Wanted at once", single_object=True)
    return request


def secret_form(provider: Provider) -> SecretForm:
    """What a secret of the provider's must be made of; one text where its adapter cannot work."""
    try:
        return adapter_for(provider.adapter, provider.manifest).secret_form
    except (KeyError, ManifestError):
        return ONE_TEXT


def _holds(credential: Credential, secret: str) -> bool:
    try:
        return credential.secret() == secret
    except SealBroken:
        return False


@transaction.atomic
def take_over(row: Provider | Model | Route) -> None:
    """Staff changed it, so that from now on it is theirs: load_catalogue passes it over."""
    if row.source != Provider.Source.OPERATOR:
        row.source = Provider.Source.OPERATOR
        row.save(update_fields=["source"])


@transaction.atomic
def set_policy(
    *, provider: Provider, said: Mapping[str, Any], by: str, user: User | None = None
) -> Provider:
    """A provider's own `breaker` and `retry`, those that are said; in force on every worker
    within a second. Raises ValidationError."""
    for part, rules in said.items():
        setattr(provider, part, rules)
    others = {field.name for field in Provider._meta.get_fields()} - said.keys()
    provider.clean_fields(exclude=others)
    provider.save(update_fields=[*said])
    take_over(provider)
    log.info("policy_set", provider=provider.slug, by=by, **said)
    if user is not None:
        told = " ".join(f"{part} {json.dumps(rules)}" for part, rules in said.items())
        rows = Provider.objects.filter(pk=provider.pk)
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, f"Policy: {told}", single_object=True)
    return provider


@transaction.atomic
def move_preset(*, of: str, to: str, dry_run: bool = False) -> list[Provider]:
    """Have the providers that name one preset name another; what else they say stays. Those
    that are, or with `dry_run` would be, changed."""
    moved = [
        row
        for row in Provider.objects.select_for_update().order_by("slug")
        if isinstance(row.breaker, dict) and row.breaker.get("preset") == of
    ]
    for row in moved if not dry_run else ():
        set_policy(provider=row, said={"breaker": row.breaker | {"preset": to}}, by="migrate")
    return moved


@transaction.atomic
def override_breaker(
    *,
    name: str,
    state: str,
    reason: str,
    by: str,
    user: User | None = None,
    expires_at: dt.datetime | None = None,
) -> BreakerOverride:
    """Staff's word on a provider's or target's breaker, in force on every worker within a
    second. Raises ValidationError."""
    if state == BreakerOverride.To.CLOSED:
        expires_at = None  # done once, it has no end
    row = BreakerOverride(name=name, state=state, reason=reason, by=by, expires_at=expires_at)
    row.full_clean()
    row.save()
    note_override(row, user)
    return row


def note_override(row: BreakerOverride, user: User | None) -> None:
    """Tell it in the log and, of a user, in the provider's history too."""
    log.warning("breaker_override", name=row.name, state=row.state, by=row.by, reason=row.reason)
    if user is not None:
        provider = Provider.objects.filter(slug=row.name.partition("/")[0])
        LogEntry.objects.log_actions(
            user.pk, provider, CHANGE, f"Breaker {row}: {row.reason}", single_object=True
        )
