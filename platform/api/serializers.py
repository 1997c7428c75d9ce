"""What all request and answer bodies share: unknown fields are refused, never dropped."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from lib.money import to_usd


class Body(serializers.Serializer[Any]):
    """A request body. A field it does not name, or only shows, is an error: nothing that a
    caller must not set can be set, and a typing mistake does not pass for success."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            writable = {name for name, field in self.fields.items() if not field.read_only}
            unknown = sorted(str(name)[:80] for name in data if name not in writable)
            if unknown:
                raise serializers.ValidationError(
                    {name: ["Unknown or not yours to set. Leave it out."] for name in unknown[:20]}
                )
        return super().to_internal_value(data)


class Shown(serializers.Serializer[Any]):
    """An answer body: only ever written."""


class MoneyShown(Shown):
    microusd = serializers.IntegerField()
    usd = serializers.CharField(help_text="The same as an exact decimal number of USD.")


@extend_schema_field(MoneyShown)
class MoneyField(serializers.Field[int, Any, Any, Any]):
    """Whole µUSD as {"microusd": 1250000, "usd": "1.25"}."""

    def to_representation(self, value: int) -> dict[str, Any]:
        return {"microusd": value, "usd": to_usd(value)}
