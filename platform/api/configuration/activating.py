"""Puts a version of a definition in force: the provider's row, its models, prices and routes."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from api.configuration.addresses import leads_inside
from api.configuration.catalogue import columns, follow_routes, load_models, load_prices
from providers import definitions
from providers.catalogue import CatalogueError, CatalogueFile
from providers.definition_models import Definition
from providers.models import Provider

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
    active = next((row for row in versions.values() if row.state == State.ACTIVE), None)
    if active != definition:
        _keep_present(provider, active, by)
        _swap(active, definition)
    _put_in_force(provider, file, _source(definition))
    done = Activated(definition, provider)
    follow_routes(provider, done.routes, done.left)
    _tell(done, by, user)
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
    """What ships was tried when it was made, and its examples may have moved on since."""
    if definition.source == Source.BUILTIN:
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


def _keep_present(provider: Provider, active: Definition | None, by: str) -> None:
    """What is in force and no version of ours, since a configuration file or an older release
    brought it, is kept to be rolled back to."""
    if not provider.pk or not provider.manifest:
        return
    if active is None or active.checksum != provider.checksum or _edited(provider, active):
        row = definitions.create(
            slug=provider.slug,
            document=definitions.written(provider.manifest),
            examples=[],
            by=by,
            note="What was in force before, as it was found.",
        )
        Definition.objects.filter(pk=row.pk).update(
            state=State.RETIRED, activated_at=timezone.now()
        )


def _edited(provider: Provider, active: Definition) -> bool:
    try:
        return bool(active.read().document != provider.manifest)
    except CatalogueError:
        return True


def _swap(active: Definition | None, definition: Definition) -> None:
    if active is not None:
        Definition.objects.filter(pk=active.pk).update(state=State.RETIRED)
    definition.state, definition.activated_at = State.ACTIVE, timezone.now()
    definition.save(update_fields=["state", "activated_at"])


def _source(definition: Definition) -> str:
    """Whoever goes back to what ships now follows the catalogue again; an older one stays."""
    newest = definitions.newest_shipped(definition.slug)
    return Source.BUILTIN if definition == newest else Source.OPERATOR


def _put_in_force(provider: Provider, file: CatalogueFile, source: str) -> None:
    allowed = provider.allow_private_network
    for name, value in columns(file).items():
        setattr(provider, name, value)
    provider.allow_private_network = allowed
    provider.source = source
    provider.full_clean()
    provider.save()
    load_models(file, provider)
    load_prices(file, provider)


def _tell(done: Activated, by: str, user: User | None) -> None:
    version = done.definition.version
    log.warning("definition_activated", provider=done.provider.slug, version=version, by=by)
    if user is not None:
        rows = Provider.objects.filter(pk=done.provider.pk)
        text = f"Definition: version {version} in force"
        LogEntry.objects.log_actions(user.pk, rows, CHANGE, text, single_object=True)
