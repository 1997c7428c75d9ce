"""Seals every provider secret again under the first of SEALING_KEYS."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import transaction

from lib.sealing import SealBroken
from providers.models import Credential
from providers.vault import ring


@dataclass(slots=True)
class Rotation:
    """`broken` names credentials that no configured key opens: set their secrets anew."""

    sealed: int = 0
    current: int = 0
    broken: list[str] = field(default_factory=list)


def rotate_secrets() -> Rotation:
    """Row by row, so that it may be cut short and started again, while calls go on."""
    rotation = Rotation()
    for pk in Credential.objects.order_by("pk").values_list("pk", flat=True):
        _rotate(pk, rotation)
    return rotation


@transaction.atomic
def _rotate(pk: int, rotation: Rotation) -> None:
    row = Credential.objects.select_for_update().filter(pk=pk).first()
    if row is None:
        return
    if ring().is_current(row.sealed):
        rotation.current += 1
        return
    try:
        row.set_secret(row.secret())
    except SealBroken:
        rotation.broken.append(str(row))
        return
    row.save(update_fields=["sealed", "last_four"])
    rotation.sealed += 1
