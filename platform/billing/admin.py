"""Prices in the admin. A version that is in force stays as it is; a change is a new one."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, TextChoices
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.models import KINDS, PER_THOUSAND, Correction, Price
from billing.services import add_price
from billing.versions import all_of, difference, side_by_side
from lib.admin import ModelAdmin
from lib.money import to_micro, to_usd
from providers.admin import ModelAdminPage
from providers.models import Model
from providers.rule_forms import operations
from usage.admin import LedgerAdmin

LARGEST = 2**63
LIKE = "like"  # in an address: the version whose figures a new one begins with
_COPIED = ("model_id", "operation", *KINDS)


class UsdField(forms.CharField):
    """USD as exact decimal text, kept as µUSD per `per` of what the text is for."""

    def __init__(self, help_text: str, *, per: int = 1) -> None:
        super().__init__(
            required=False, widget=UnfoldAdminTextInputWidget(), help_text=f"USD {help_text}"
        )
        self.per = per

    def prepare_value(self, value: Any) -> Any:
        return to_usd(value // self.per) if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            micro = to_micro(text) * self.per
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if not 0 <= micro < LARGEST:
            raise ValidationError("Out of range.")
        return micro

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    operation = forms.ChoiceField(
        choices=lambda: operations("all"), required=False, widget=UnfoldAdminSelectWidget
    )
    input = UsdField("per million tokens, such as 1.25.")
    output = UsdField("per million tokens.")
    cached_input = UsdField("per million tokens. Empty: as input.")
    cache_write = UsdField("per million tokens. Empty: as input.")
    reasoning = UsdField("per million tokens. Empty: as output.")
    unit = UsdField(
        "per thousand units: calls for data, characters, seconds, images or searches.",
        per=PER_THOUSAND,
    )
    call = UsdField("per call.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "effective_from" in self.fields:
            self.fields["effective_from"].required = False
            self.fields["effective_from"].help_text = "Empty: from now on."
        if self.instance.pk is None:
            self.initial["effective_from"] = None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and all(cleaned.get(kind) is None for kind in KINDS):
            raise ValidationError("Say what it costs: 0 where it is free.")
        return cleaned

    def clean_effective_from(self) -> dt.datetime:
        now = timezone.now()
        moment: dt.datetime = self.cleaned_data["effective_from"] or now
        if moment < now:
            raise ValidationError(
                "Prices change from now on. For what should have been in force before: "
                "`manage.py apply`, then `manage.py reprice`."
            )
        return moment


class State(TextChoices):
    IN_FORCE = "now", "in force"
    FUTURE = "future", "to come"
    PAST = "past", "past"


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return State.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Price]) -> QuerySet[Price]:
        if self.value() == State.FUTURE:
            return queryset.filter(effective_from__gt=Now())
        if self.value() == State.IN_FORCE:
            return queryset.filter(pk=F("in_force"))
        if self.value() == State.PAST:
            return queryset.filter(effective_from__lte=Now()).exclude(pk=F("in_force"))
        return queryset


@admin.register(Price)
class PriceAdmin(ModelAdmin):
    form = PriceForm
    list_per_page = 50
    list_display = [
        "what",
        "state",
        "effective_from",
        "input_usd",
        "output_usd",
        "unit_usd",
        "call_usd",
        "source",
    ]
    list_filter = [StateFilter, "source", "provider"]
    list_select_related = ["provider"]
    search_fields = ["model_id", "provider__slug", "note"]
    autocomplete_fields = ["provider"]
    fields = ["provider", "model_id", "operation", "effective_from", *KINDS, "note"]
    actions_row = ["next_version", "as_before"]
    actions_detail = ["next_version", "as_before"]
    change_form_outer_after_template = "billing/price_versions.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        rows: QuerySet[Price] = super().get_queryset(request)
        of = {name: OuterRef(name) for name in ("provider", "model_id", "operation")}
        return rows.annotate(in_force=_newest(**of).values("pk")[:1])

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Of one in force what it costs is in the table of its versions, in USD."""
        return [name for name in self.fields if not (_has_begun(obj) and name in KINDS)]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not _has_begun(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not _has_begun(obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """None that deletes many: most are or were in force."""
        actions: dict[str, Any] = super().get_actions(request)
        return {name: action for name, action in actions.items() if name != "delete_selected"}

    def has_version_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(self.has_add_permission(request))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Of a next version: the figures of the one that is named, to be changed."""
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        former = given.pop(LIKE, "")
        price = self.get_object(request, former)
        if price is None:
            return given
        of = {"provider": price.provider_id, **{name: getattr(price, name) for name in _COPIED}}
        return {**of, **given}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        price = self.get_object(request, object_id)
        known = {} if price is None else _versions(price)
        context = {**(extra_context or {}), **known}
        return super().change_view(request, object_id, form_url, context)

    @action(  # type: ignore[untyped-decorator]
        description="Next version", icon="edit", url_path="next", permissions=["version"]
    )
    def next_version(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form of a new one with this one's figures in it."""
        price: Price = self.row(request, object_id)
        return redirect(f"{reverse('admin:billing_price_add')}?{LIKE}={price.pk}")

    @action(  # type: ignore[untyped-decorator]
        description="As before", icon="undo", url_path="again", permissions=["version"]
    )
    def as_before(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A new version as this one is: a page that shows the difference, and then does."""
        price: Price = self.row(request, object_id)
        if request.method == "POST":
            new = add_price(
                provider=price.provider,
                model_id=price.model_id,
                operation=price.operation,
                prices=price.prices,
                note=f"as of {price.effective_from:%Y-%m-%d %H:%M:%S}",
            )
            self.log_addition(request, new, f"As version {price.pk}")
            self.message_user(request, f"{new.what}: in force everywhere within a second.")
            return redirect("admin:billing_price_change", new.pk)
        now = next(iter(_begun(price)), None)
        context = {
            **self.admin_site.each_context(request),
            "title": "A price as before",
            "price": price,
            "cells": difference(price, now),
        }
        return TemplateResponse(request, "billing/price_again.html", context)

    @display(  # type: ignore[untyped-decorator]
        description="state",
        label={State.IN_FORCE: "success", State.FUTURE: "info", State.PAST: "warning"},
    )
    def state(self, price: Any) -> tuple[State, Any]:
        state = State.PAST
        if not _has_begun(price):
            state = State.FUTURE
        elif price.pk == price.in_force:
            state = State.IN_FORCE
        return state, state.label

    @admin.display(description="input, $/M", ordering="input")
    def input_usd(self, price: Price) -> str:
        return _usd(price.input)

    @admin.display(description="output, $/M", ordering="output")
    def output_usd(self, price: Price) -> str:
        return _usd(price.output)

    @admin.display(description="unit, $/1000", ordering="unit")
    def unit_usd(self, price: Price) -> str:
        return _usd(price.unit, per=PER_THOUSAND)

    @admin.display(description="call, $", ordering="call")
    def call_usd(self, price: Price) -> str:
        return _usd(price.call)


@admin.register(Correction)
class CorrectionAdmin(LedgerAdmin):
    list_display = ["created_at", "request_id", "reason", "charge_usd", "cost_usd"]
    search_fields = ["request_id__exact"]
    ordering = ["-pk"]

    @admin.display(description="charge, USD", ordering="charge")
    def charge_usd(self, correction: Correction) -> str:
        return to_usd(correction.charge)

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, correction: Correction) -> str:
        return to_usd(correction.cost)


class PricedModelAdmin(ModelAdminPage):
    """The page of the models, with what they cost now."""

    list_display = ["model_id", "provider", "operation", "context", "input", "output", "enabled"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        rows: QuerySet[Model] = super().get_queryset(request)
        of = Q(operation="") | Q(operation=OuterRef("operation"))
        own = _newest(of, provider=OuterRef("provider"), model_id=OuterRef("model_id"))
        return rows.annotate(
            input_price=Subquery(own.values("input")[:1]),
            output_price=Subquery(own.values("output")[:1]),
        )

    @admin.display(description="input, USD per million", ordering="input_price")
    def input(self, model: Any) -> str:
        return _usd(model.input_price, unknown="unknown")

    @admin.display(description="output, USD per million", ordering="output_price")
    def output(self, model: Any) -> str:
        return _usd(model.output_price, unknown="unknown")


admin.site.unregister(Model)
admin.site.register(Model, PricedModelAdmin)


def _newest(*conditions: Q, **of: Any) -> QuerySet[Price]:
    """Of one thing's versions the one in force first, its own operation's before all others'."""
    begun: QuerySet[Price] = Price.objects.filter(*conditions, effective_from__lte=Now(), **of)
    return begun.order_by("-operation", "-effective_from")


def _begun(price: Price) -> list[Price]:
    return [each for each in all_of(price) if _has_begun(each)]


def _versions(price: Price) -> dict[str, Any]:
    versions = all_of(price)
    in_force = next((each.pk for each in versions if _has_begun(each)), None)
    return {"versions": side_by_side(versions), "in_force": in_force}


def _has_begun(price: Price | None) -> bool:
    return price is not None and price.effective_from <= timezone.now()


def _usd(amount: int | None, *, per: int = 1, unknown: str = "-") -> str:
    return unknown if amount is None else to_usd(amount // per)
