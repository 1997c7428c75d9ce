"""People in the admin: users, memberships, sign-ins, and what django-axes noted."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import services, tokens
from accounts.models import Invitation, Membership, RefreshFamily, User
from lib.admin import ModelAdmin
from lib.audit import event, object_id

for _model in (Group, AccessAttempt, AccessFailureLog, AccessLog):
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)


class NewUserForm(UserCreationForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = ["email"]

    def clean_email(self) -> str:
        return services.normal_email(self.cleaned_data["email"])


class ChangeUserForm(UserChangeForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = "__all__"

    def clean_email(self) -> str:
        return services.normal_email(self.cleaned_data["email"])


class NewPasswordForm(AdminPasswordChangeForm):  # type: ignore[misc]
    def save(self, commit: bool = True) -> Any:
        """A new password ends what was signed in with the old one."""
        user = super().save(commit)
        services.end_sessions(user=self.user)
        return user


class GivesPowers:
    """Groups and permissions are rows of their own to Django, and one change to the audit log."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        row = form.instance
        before = _powers(row)
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        if (after := _powers(row)) != before:
            told = {"object_id": object_id(row), "object_name": str(row)}
            event("changed", kind=row._meta.label_lower, **told, before=before, after=after)


def _powers(row: User | Group) -> dict[str, list[str]]:
    names = {field.name: field.value_from_object(row) for field in row._meta.many_to_many}
    return {name: sorted(map(str, powers)) for name, powers in names.items()}


@admin.register(User)
class UserAdmin(GivesPowers, BaseUserAdmin, ModelAdmin):  # type: ignore[type-arg, misc]
    form = ChangeUserForm
    add_form = NewUserForm
    change_password_form = NewPasswordForm
    ordering = ["email"]
    list_display = ["email", "name", "is_active", "is_staff", "is_superuser", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser"]
    search_fields = ["email", "name", "public_id"]
    powers = ["is_staff", "is_superuser", "groups", "user_permissions"]
    fieldsets = (
        (None, {"fields": ("email", "name", "password", "is_active")}),
        ("Powers", {"fields": ("is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("public_id", "last_login", "date_joined")}),
    )
    add_fieldsets = [
        (None, {"fields": ["email", "usable_password", "password1", "password2"]}),
    ]
    actions = ["end_sessions"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Only superusers give powers away: staff must not raise themselves."""
        kept = ["public_id", "last_login", "date_joined"]
        return kept if request.user.is_superuser else [*kept, *self.powers]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        above = obj is not None and obj.is_superuser and not request.user.is_superuser
        return allowed and not above

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and request.user.is_superuser

    @admin.action(description="End all sign-ins", permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            services.end_sessions(user=user)
        self.message_user(request, "Their tokens stop working within a second.")


@admin.register(Membership)
class MembershipAdmin(ModelAdmin):
    list_display = ["user", "tenant", "role", "created_at"]
    list_filter = ["role", "tenant"]
    list_select_related = ["user", "tenant"]
    search_fields = ["user__email", "tenant__slug"]
    autocomplete_fields = ["user", "tenant"]
    readonly_fields = ["created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["created_at", "user", "tenant"] if obj else ["created_at"]


class ReadOnlyAdmin(ModelAdmin):
    """For rows that the system writes and people only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = ["email", "tenant", "role", "by", "created_at", "expires_at", "accepted_at"]
    list_select_related = ["tenant", "by"]
    search_fields = ["email", "tenant__slug"]
    fields = ["email", "tenant", "role", "by", "created_at", "expires_at", "accepted_at"]


@admin.register(RefreshFamily)
class RefreshFamilyAdmin(ReadOnlyAdmin):
    list_display = ["id", "user", "created_at", "expires_at", "revoked_at"]
    list_filter = ["revoked_at"]
    list_select_related = ["user"]
    search_fields = ["id", "user__email"]
    fields = ["id", "user", "created_at", "expires_at", "revoked_at"]
    actions = ["end"]

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_refreshfamily")

    @admin.action(description="End these sign-ins", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[RefreshFamily]) -> None:
        for family in queryset:
            tokens.end_family(family.pk)
        self.message_user(request, "Ended.")


@admin.register(Group)
class GroupAdmin(GivesPowers, BaseGroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ReadOnlyAdmin):
    """Deleting one ends its lockout."""

    list_display = ["attempt_time", "username", "ip_address", "failures_since_start"]
    search_fields = ["username", "ip_address"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("axes.delete_accessattempt"))


@admin.register(AccessLog, AccessFailureLog)
class AccessLogAdmin(ReadOnlyAdmin):
    list_display = ["attempt_time", "username", "ip_address", "path_info"]
    search_fields = ["username", "ip_address"]
