"""Puts a version of a definition in force: the provider's row, its models, prices and routes."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from api.configuration.catalogue import columns, follow_routes, load_models, load_prices
from lib.inside import leads_inside
from providers import definitions
from providers.catalogue import CatalogueError, CatalogueFile
from providers.definition_models import Definition
from providers.models import Provider
from providers.sandbox_sync import sync_sandbox

log = structlog.get_logger("patchbay.definitions")
State, Source = Definition.State, Definition.Source


@dataclass(slots=True)
class Activated:
    """What is in force now. `routes` are operations whose route leads there since; `left` those
    whose route is staff's own, who add the target themselves."""

    definition: Definition
    provider: Provider
    routes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@transaction.atomic
def activate(*, definition: Definition, by: str, user: User | None = None) -> Activated:
    """In force on every worker within a second. Raises ValidationError with the faults of a
    definition that does not keep its word."""
    versions = {row.pk: row for row in definitions.locked(definition.slug)}
    if definition.pk not in versions:
        raise ValidationError({"version": "It is not kept any more. Choose another."})
    definition = versions[definition.pk]
    file = _checked(definition)
    provider = _provider(file)
    _check_address(provider, file)
    definitions.adopt(provider=provider, by=by)
    _swap(definition)
    _put_in_force(provider, file, _source(definition))
    done = Activated(definition, provider)
    follow_routes(provider, done.routes, done.left)
    _tell(done, by, user)
    transaction.on_commit(sync_sandbox, robust=True)
    return done


@transaction.atomic
def roll_back(*, slug: str, by: str, user: User | None = None) -> Activated:
    """What was in force before is so again. Raises ValidationError where nothing was."""
    active = Definition.objects.filter(slug=slug, state=State.ACTIVE).first()
    before = definitions.previous(active) if active else None
    if before is None:
        raise ValidationError({"version": "Nothing was in force before. Activate a version."})
    return activate(definition=before, by=by, user=user)


def _checked(definition: Definition) -> CatalogueFile:
    """What ships was tried when it was made, and what was in force needs no example to be so
    again: to go back must not fail for the want of one."""
    if definition.source == Source.BUILTIN or definition.activated_at:
        try:
            return definition.read()
        except CatalogueError as error:
            raise ValidationError({"document": error.faults}) from None
    proof = definitions.proof_of(definition)
    if proof.file is None or not proof.holds:
        raise ValidationError({"document": [str(line) for line in proof.faults]})
    return proof.file


def _provider(file: CatalogueFile) -> Provider:
    found = Provider.objects.select_for_update().filter(slug=file.slug).first()
    return found or Provider(slug=file.slug, enabled=file.enabled)


def _check_address(provider: Provider, file: CatalogueFile) -> None:
    """What a document says of private networks counts where a file ships it, not where it is
    typed into a page: that is the provider's own switch."""
    host = leads_inside(file.document["base_url"])
    if host is not None and not provider.allow_private_network:
        raise ValidationError(
            {
                "document": f"base_url: {host} is a private or loopback address. If you run this "
                "upstream yourself, allow private networks on the provider first."
            }
        )


def _swap(definition: Definition) -> None:
    others = Definition.objects.filter(slug=definition.slug, state=State.ACTIVE)
    others.exclude(pk=definition.pk).update(state=State.RETIRED)
    definition.state, definition.activated_at = State.ACTIVE, timezone.now()
    definition.save(update_fields=["state", "activated_at"])


def _source(definition: Definition) -> str:
    """Whoever goes back to what ships now follows the catalogue again; an older one stays."""
    newest = definitions.newest_shipped(definition.slug)
    return Source.BUILTIN if definition == newest else Source.OPERATOR


def _put_in_force(provider: Provider, file: CatalogueFile, source: str) -> None:
    values = columns(file) | {"source": source}
    del values["allow_private_network"]  # the provider's own switch
    for name, value in values.items():
        setattr(provider, name, value)
    provider.clean_fields({field.name for field in Provider._meta.fields} - values.keys())
    provider.save()
    if not file.manifest:  # what a data provider's calls cost is staff's to say
        load_models([(file, provider)])
        load_prices([(file, provider)])


def _tell(done: Activated, by: str, user: User | None) -> None:
    version = done.definition.version
    log.warning("definition_activated", provider=done.provider.slug, version=version, by=by)
    if user is not None:
        rows = Provider.objects.filter(pk=done.provider.pk)
        text = f"Definition: version {version} in force"
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, text, single_object=True)
