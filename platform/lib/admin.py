"""What all pages of the admin have in common: what a form says may name no row at all."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db.models import Field, JSONField, QuerySet, URLField
from django.forms import Form, ModelChoiceField, ModelMultipleChoiceField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold import admin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminURLInputWidget

from lib.audit import AuditEntry


def is_key(field: Field[Any, Any], value: Any) -> bool:
    """Whether a row may have this in its key. Else asking for it raises, in each database
    otherwise."""
    try:
        field.clean(value, None)
    except ValidationError:
        return False
    return "\0" not in str(value)


class RowChoice(ModelChoiceField):  # type: ignore[type-arg]
    """One row. What is no key is a fault of the form, and the form is drawn without it. `known`
    is the row that it shows, where that was read with the form's own."""

    known: Any = None

    def get_bound_field(self, form: Any, field_name: str) -> Any:
        row = getattr(form, "instance", None)
        self.known = row._state.fields_cache.get(field_name) if row is not None else None
        return super().get_bound_field(form, field_name)

    def prepare_value(self, value: Any) -> Any:
        told = super().prepare_value(value)
        return told if told in self.empty_values or is_key(_key_of(self), told) else None


class RowsChoice(ModelMultipleChoiceField):  # type: ignore[type-arg]
    """Several rows, likewise."""

    def prepare_value(self, value: Any) -> Any:
        told = super().prepare_value(value)
        return [each for each in told if is_key(_key_of(self), each)] if _many(told) else told

    def clean(self, value: Any) -> Any:
        for each in value if _many(value) else ():
            if not is_key(_key_of(self), each):
                raise ValidationError(self.error_messages["invalid_pk_value"], params={"pk": each})
        return super().clean(value)


def _many(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)


def _key_of(field: Any) -> Field[Any, Any]:
    meta = field.queryset.model._meta
    key: Field[Any, Any] = meta.get_field(field.to_field_name or meta.pk.name)
    return key


class RowSelect(AutocompleteSelect):
    """Looks for the row that it shows only where nobody knows it. Shows a word where it shows no
    row, by which it is told to who hears the page."""

    def build_attrs(self, base_attrs: Any, extra_attrs: Any = None) -> Any:
        word = "choose" if self.is_required else "none"
        return {**super().build_attrs(base_attrs, extra_attrs), "data-placeholder": word}

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        known = self.choices.field.known
        if known is None or value != [str(known.pk)]:
            return super().optgroups(name, value, attr)
        shown = [(known.pk, str(known), True)]
        if not self.is_required:
            shown.insert(0, ("", "", False))
        options = [
            self.create_option(name, key, label, chosen, place)
            for place, (key, label, chosen) in enumerate(shown)
        ]
        return [(None, options, 0)]


class Indented(json.JSONEncoder):
    """JSON as people edit it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"indent": 2})


class _Choices:
    def formfield_for_foreignkey(self, field: Any, request: HttpRequest, **options: Any) -> Any:
        if field.name in self.get_autocomplete_fields(request):  # type: ignore[attr-defined]
            using = options.get("using")
            select = RowSelect(field, self.admin_site, using=using)  # type: ignore[attr-defined]
            options.setdefault("widget", select)
        return super().formfield_for_foreignkey(  # type: ignore[misc]
            field, request, **{"form_class": RowChoice, **options}
        )

    def formfield_for_manytomany(self, field: Any, request: HttpRequest, **options: Any) -> Any:
        return super().formfield_for_manytomany(  # type: ignore[misc]
            field, request, **{"form_class": RowsChoice, **options}
        )


class TabularInline(_Choices, admin.TabularInline):  # type: ignore[misc]
    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """A cell has no label but its column's head, which who hears the page is not told."""
        field = super().formfield_for_dbfield(db_field, request, **options)
        if field is not None:
            field.widget.attrs.setdefault("aria-label", str(db_field.verbose_name))
        return field


class ModelAdmin(_Choices, admin.ModelAdmin):  # type: ignore[misc]
    formfield_overrides = {
        JSONField: {
            "encoder": Indented,
            "widget": UnfoldAdminTextareaWidget(attrs={"class": "json", "rows": 4}),
        },
        URLField: {"assume_scheme": "https", "widget": UnfoldAdminURLInputWidget},
    }

    def row(self, request: HttpRequest, object_id: str) -> Any:
        """The one that an action is about. Raises Http404."""
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404
        return found

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponseBase | None:
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if all(is_key(self.opts.pk, each) for each in chosen):
            done: HttpResponseBase | None = super().response_action(request, queryset)
            return done
        self.message_user(request, "Choose rows of this list.", messages.ERROR)
        return None


class UndoableAdmin(ModelAdmin):
    """For rows whose last change staff may take back: a page shows what it was, and does."""

    actions_detail = ["last_change"]

    @action(  # type: ignore[untyped-decorator]
        description="Undo the last change",
        icon="undo",
        url_path="last-change",
        permissions=["change"],
    )
    def last_change(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.row(request, object_id)
        entry = AuditEntry.objects.about(row).filter(action="changed").first()
        if entry is not None:
            return redirect("admin:lib_auditentry_undo", entry.pk)
        self.message_user(request, "It was not changed since it was made.", messages.WARNING)
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", row.pk)


def asked(
    page: ModelAdmin,
    request: HttpRequest,
    action_name: str,
    rows: Collection[Any],
    *,
    form: Form,
    back: str,
) -> HttpResponse:
    """What an action is told before it does anything; sent back, it has `sure` in it."""
    context = {
        **page.admin_site.each_context(request),
        "title": page.get_action(action_name)[2],
        "form": form,
        "rows": rows,
        "action": action_name,
        "back": back,
    }
    return TemplateResponse(request, "lib/ask.html", context)
