"""Requests whose answers are kept warm, as rows: what staff and manifests declare."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, validate_slug
from django.db import models

from lib.models import Published, Topic
from providers import warm_requests
from providers.adapters.manifest import ManifestError, compile_manifest
from tenants.limits import ItemFault
from tenants.models import Tenant


class WarmRequest(Published):
    """A question whose answer the cache is to have at hand: asked once in so many seconds, by all
    gateways together. Without a tenant it is the house's, and so is the bill."""

    topic = Topic.ROUTING
    untold = frozenset({"ran_at", "outcome"})

    name = models.CharField(max_length=160, unique=True, validators=[validate_slug])
    provider = models.ForeignKey(
        "providers.Provider",
        null=True,
        editable=False,
        on_delete=models.CASCADE,
        related_name="warm_requests",
        help_text="Whose manifest declares it; empty: staff do.",
    )
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="warm_requests",
        help_text="Who asks, under whose limits and on whose bill. Empty: the house, which may "
        "ask what everybody gets the same answer to.",
    )
    operation = models.CharField(max_length=64)
    params = models.JSONField(
        default=dict,
        blank=True,
        help_text='The request as a caller would make it: {"base": "EUR", "quote": "USD"}.',
    )
    every = models.PositiveIntegerField(
        default=warm_requests.USUAL_SECONDS,
        validators=[
            MinValueValidator(warm_requests.LEAST_SECONDS),
            MaxValueValidator(warm_requests.MOST_SECONDS),
        ],
        help_text="Seconds. It is asked only if the answer would be stale before the next time.",
    )
    enabled = models.BooleanField(default=True)
    asked_at = models.DateTimeField(
        null=True, editable=False, help_text="When staff last wanted it at once."
    )
    ran_at = models.DateTimeField(null=True, editable=False)
    outcome = models.CharField(max_length=32, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def follow(cls, provider_id: int, slug: str, manifest: Any) -> None:
        """Have those that a provider's manifest declares, and no others of that provider."""
        declared = warm_requests.declared(slug, manifest) if _is_sound(manifest) else {}
        rows = {row.name: row for row in cls.objects.filter(provider_id=provider_id)}
        for name, values in declared.items():
            row = rows.pop(name, None) or cls(name=name, provider_id=provider_id)
            before = {field: getattr(row, field) for field in values}
            if row.pk is None or before != values:
                for field, value in values.items():
                    setattr(row, field, value)
                row.save()
        for row in rows.values():
            row.delete()

    @classmethod
    def declare(cls, providers: Iterable[Any]) -> None:
        """Have those that the manifests of new providers declare, which are known to be sound."""
        cls.objects.bulk_create(
            cls(name=name, provider_id=row.pk, **values)
            for row in providers
            if row.manifest
            for name, values in warm_requests.declared(row.slug, row.manifest).items()
        )

    @classmethod
    def running(cls) -> models.QuerySet[WarmRequest]:
        """Those that are switched on, and whose manifest's provider is."""
        rows = cls.objects.filter(enabled=True)
        return rows.filter(models.Q(provider=None) | models.Q(provider__enabled=True))

    @property
    def spec(self) -> warm_requests.WarmSpec:
        return warm_requests.WarmSpec(
            self.pk,
            self.tenant_id,
            self.operation,
            self.params,
            self.every,
            _seconds(self.asked_at),
        )

    def clean(self) -> None:
        """Raises ValidationError."""
        from providers.models import Route  # which imports this module

        route = Route.objects.filter(operation=self.operation, alias="").first()
        try:
            warm_requests.check(
                self.operation,
                self.params,
                is_house=self.tenant_id is None,
                route_cache=route.cache if route else None,
            )
        except warm_requests.WarmFault as fault:
            told = ItemFault(fault.path, str(fault), fault.field) if fault.path else str(fault)
            raise ValidationError({fault.field: told}) from None


def _is_sound(manifest: Any) -> bool:
    """What cannot be compiled answers nothing either."""
    try:
        compile_manifest(manifest)
    except ManifestError:
        return False
    return True


def _seconds(moment: dt.datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0
