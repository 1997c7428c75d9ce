"""The audit log in the admin: read, and the last change of a row undone."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from unfold.decorators import action

from accounts.admin import ReadOnlyAdmin
from api import undoing
from api.console import tenants  # noqa: F401 - registers its page
from lib.audit import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "who", "action", "kind", "object_name", "address"]
    list_filter = ["actor_kind", "action", "kind"]
    search_fields = ["actor", "object_id", "object_name", "request_id"]
    date_hierarchy = "at"
    fields = ["at", "who", "address", "request_id", "action", "kind", "object_name", "object_id"]
    fields += ["what_changed", "number", "digest"]
    readonly_fields = fields
    actions_detail = ["undo"]
    show_full_result_count = False

    @admin.display(description="who", ordering="actor")
    def who(self, entry: AuditEntry) -> str:
        return entry.actor or entry.actor_kind

    @admin.display(description="what changed")
    def what_changed(self, entry: AuditEntry) -> str:
        before, after = json.loads(entry.before), json.loads(entry.after)
        rows = [(name, _told(before, name), _told(after, name)) for name in {**before, **after}]
        head = mark_safe("<tr><th>field</th><th>before</th><th>after</th></tr>")
        cells = "<tr><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>"
        body = format_html_join("", cells, rows)
        return format_html(
            '<div class="overflow-x-auto"><table class="changes">{}{}</table></div>',
            head,
            body,
        )

    @action(description="Undo this change", permissions=["undo"])  # type: ignore[untyped-decorator]
    def undo(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A page that asks, and then does: links must not change anything."""
        entry = AuditEntry.objects.get(pk=object_id)
        if request.method == "POST":
            try:
                row = undoing.undo(entry=entry)
            except ValidationError as error:
                self.message_user(request, " ".join(error.messages), messages.ERROR)
            else:
                self.message_user(request, f"{row} is again as it was; in force within a second.")
            return redirect("admin:lib_auditentry_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": "Undo a change",
            "entry": entry,
            "what_changed": self.what_changed(entry),
        }
        return TemplateResponse(request, "api/undo.html", context)

    def has_undo_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        entry = AuditEntry.objects.filter(pk=object_id or "").first()
        return entry is not None and undoing.can_be_undone(entry) and may_change(request, entry)


def may_change(request: HttpRequest, entry: AuditEntry) -> bool:
    """Who may change the row may take a change of it back."""
    app, _, model = entry.kind.partition(".")
    return bool(request.user.has_perm(f"{app}.change_{model}"))


def _told(columns: dict[str, Any], name: str) -> str:
    if name not in columns:
        return ""
    value = columns[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
