"""What calls cost: price versions, and corrections of what was charged at a wrong one."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from lib.models import Published, PublishedQuerySet, Topic
from providers.models import Provider
from providers.prices import Prices
from usage.models import AppendOnly

EVERY_MODEL = "*"  # the price of a provider's models that have none of their own
PER_THOUSAND = 1000  # data providers' prices are told per thousand units and kept per million


class InForce(Exception):
    """Someone tried to change a price that is or was in force. A change is a new version."""


def validate_unit_price(price: int) -> None:
    if price % PER_THOUSAND:
        raise ValidationError("A price is a whole number of µUSD per thousand units.")


def _amount(help_text: str, *validators: Any) -> models.BigIntegerField[int | None, int | None]:
    return models.BigIntegerField(
        null=True, blank=True, help_text=help_text, validators=[MinValueValidator(0), *validators]
    )


class PriceQuerySet(PublishedQuerySet):
    def update(self, **kwargs: Any) -> int:
        self._refuse_if_in_force()
        return super().update(**kwargs)

    def delete(self) -> tuple[int, dict[str, int]]:
        self._refuse_if_in_force()
        return super().delete()

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Any]:
        if kwargs.get("update_conflicts"):
            raise InForce
        return super().bulk_create(*args, **kwargs)

    def begun(self, moment: dt.datetime) -> PriceQuerySet:
        """Versions that are or were in force at `moment`."""
        return self.filter(effective_from__lte=moment)

    def _refuse_if_in_force(self) -> None:
        if self.begun(timezone.now()).exists():
            raise InForce


class Price(Published):
    """A version of the price of one thing at one provider, in force from its moment until the
    next version's. Ledger rows name it, so once it is in force it stays as it is for ever.

    The thing is a model (`*`: all without a price of their own) or, without one, a data
    provider's units. A version for one operation comes before one for all.
    """

    topic = Topic.ROUTING

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="prices")
    model_id = models.CharField(
        "model",
        max_length=200,
        blank=True,
        help_text="* for every model without a price of its own; empty for a data provider.",
    )
    operation = models.CharField(max_length=64, blank=True, help_text="Empty: all.")
    effective_from = models.DateTimeField(default=timezone.now)
    input = _amount("µUSD per million tokens")
    output = _amount("µUSD per million tokens")
    cached_input = _amount("µUSD per million tokens; empty: as input")
    cache_write = _amount("µUSD per million tokens; empty: as input")
    reasoning = _amount("µUSD per million tokens; empty: as output")
    unit = _amount("µUSD per million units", validate_unit_price)
    call = _amount("µUSD per call")
    source = models.CharField(
        max_length=12, choices=Provider.Source, default=Provider.Source.OPERATOR, editable=False
    )
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[Any] = PriceQuerySet.as_manager()

    class Meta:
        ordering = ["provider_id", "model_id", "operation", "-effective_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "model_id", "operation", "effective_from"],
                name="price_version",
            )
        ]

    def __str__(self) -> str:
        return f"{self.what} from {self.effective_from:%Y-%m-%d %H:%M:%S}"

    @property
    def what(self) -> str:
        """What it is the price of, such as `lab/gpt-x (embeddings)`."""
        name = f"{self.provider.slug}/{self.model_id}" if self.model_id else self.provider.slug
        return f"{name} ({self.operation})" if self.operation else name

    @property
    def prices(self) -> Prices:
        return Prices(**{name: getattr(self, name) for name in KINDS})

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_if_in_force()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self._refuse_if_in_force()
        return super().delete(*args, **kwargs)

    def _refuse_if_in_force(self) -> None:
        """As the database knows it, whatever this instance says."""
        if self.pk is not None and Price.objects.begun(timezone.now()).filter(pk=self.pk).exists():
            raise InForce


KINDS = ("input", "output", "cached_input", "cache_write", "reasoning", "unit", "call")


class CorrectionQuerySet(models.QuerySet["Correction"]):
    def update(self, **kwargs: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Correction]:
        if kwargs.get("update_conflicts"):
            raise AppendOnly
        return super().bulk_create(*args, **kwargs)


class Correction(models.Model):
    """What is to be added to a ledger row's charge and cost (µUSD, often below zero) because
    another price should have been in force. The row itself is never changed."""

    request_id = models.CharField(max_length=36)
    reason = models.CharField(max_length=64)
    tenant_id = models.BigIntegerField()
    charge = models.BigIntegerField(help_text="µUSD to add to the row's charge")
    cost = models.BigIntegerField(help_text="µUSD to add to the row's cost")
    price_id = models.BigIntegerField(null=True, help_text="the price version it is now at")
    created_at = models.DateTimeField(default=timezone.now)

    objects = CorrectionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request_id", "reason"], name="correction_once")
        ]
        indexes = [
            models.Index(fields=["tenant_id", "created_at"], name="corrections_by_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.reason}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly
        super().save(*args, **kwargs | {"force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly
