"""Real providers whose secrets are in the environment: enabled for `make run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.db import transaction

from lib.sealing import SealBroken
from providers.catalogue import CatalogueFile
from providers.models import Credential, Model, Provider

CREDENTIAL = "env"


@dataclass(frozen=True, slots=True)
class LiveProvider:
    """`model` is one to try, "" for a data provider."""

    slug: str
    variable: str
    model: str


@transaction.atomic
def enable_live(
    files: Sequence[CatalogueFile], secret_of: Callable[[str], str]
) -> list[LiveProvider]:
    """Seal each secret that `secret_of(variable)` knows as the provider's credential `env`;
    where it knows none any more, switch that credential off. Those that are enabled now."""
    providers = {row.slug: row for row in Provider.objects.all()}
    enabled = []
    for file in files:
        provider = providers[file.slug]
        variable = file.credential_env
        if variable and _set_credential(provider, file.secret(secret_of)):
            enabled.append(_live(provider, variable))
        base_url_variable = str(file.document.get("base_url_env", ""))
        if base_url_variable and (url := secret_of(base_url_variable)):
            _set_base_url(provider, url)
            enabled.append(_live(provider, base_url_variable))
    return enabled


def _set_credential(provider: Provider, secret: str) -> bool:
    row = Credential.objects.filter(provider=provider, tenant=None, name=CREDENTIAL).first()
    if not secret:
        if row and row.enabled:
            row.enabled = False
            row.save(update_fields=["enabled"])
        return False
    row = row or Credential(provider=provider, name=CREDENTIAL)
    if not (row.pk and row.enabled and _opens_to(row, secret)):
        row.set_secret(secret)
        row.enabled = True
        row.save()
    if not provider.enabled:
        provider.enabled = True
        provider.save(update_fields=["enabled"])
    return True


def _opens_to(row: Credential, secret: str) -> bool:
    try:
        return row.secret() == secret
    except SealBroken:
        return False


def _set_base_url(provider: Provider, url: str) -> None:
    url = url.rstrip("/")
    if (provider.base_url, provider.enabled) != (url, True):
        provider.base_url, provider.enabled = url, True
        provider.save(update_fields=["base_url", "enabled"])


def _live(provider: Provider, variable: str) -> LiveProvider:
    models = Model.objects.filter(provider=provider, operation="chat.completions", enabled=True)
    first = models.order_by("pk").values_list("model_id", flat=True).first()
    return LiveProvider(provider.slug, variable, f"{provider.slug}/{first}" if first else "")
