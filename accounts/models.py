"""People: users who sign in by e-mail, and their role in each tenant."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from lib.audited import Audited, AuditedQuerySet
from lib.ids import prefixed
from lib.models import Published, Revision, Topic
from tenants.models import Tenant


class UserQuerySet(AuditedQuerySet):
    """Who is deleted or switched off here is out on every worker within a second."""

    def update(self, **kwargs: Any) -> int:
        Revision.bump(Topic.KEYS)
        return super().update(**kwargs)

    def delete(self) -> tuple[int, dict[str, int]]:
        Revision.bump(Topic.KEYS)
        return super().delete()


class UserManager(BaseUserManager["User"]):
    def get_queryset(self) -> UserQuerySet:
        return UserQuerySet(self.model, using=self._db)

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A user; without a password, one who cannot sign in until it is set."""
        if not email:
            raise ValueError("A user needs an e-mail address")
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email__iexact=username)


class User(Audited, AbstractBaseUser, PermissionsMixin):
    """A person. Staff use the admin; anyone may be a member of tenants."""

    hidden = frozenset({"password"})
    untold = frozenset({"last_login"})

    public_id = models.CharField(
        max_length=40, unique=True, editable=False, default=partial(prefixed, "usr")
    )
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False, help_text="May sign in to the admin.")
    date_joined = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ["email"]
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.email

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        # The last sign-in is nothing the data path reads.
        if set(kwargs.get("update_fields") or ["all"]) != {"last_login"}:
            Revision.bump(Topic.KEYS)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        Revision.bump(Topic.KEYS)
        return super().delete(*args, **kwargs)


class Role(models.TextChoices):
    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


class Membership(Published):
    """A user's role in a tenant."""

    topic = Topic.KEYS

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role, default=Role.DEVELOPER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["tenant_id", "user_id"]
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant"], name="one_membership_per_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} ({self.role})"


class InvitationQuerySet(AuditedQuerySet):
    def open(self) -> InvitationQuerySet:
        """Those that may still be accepted, the newest first."""
        waiting = self.filter(accepted_at=None, expires_at__gt=timezone.now())
        return waiting.order_by("-created_at")


class Invitation(Audited):
    """An offer to an address to join a tenant. Of the link that accepts it, only a hash is kept."""

    hidden = frozenset({"digest"})

    public_id = models.CharField(
        max_length=40, unique=True, editable=False, default=partial(prefixed, "ivt")
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=12, choices=Role, default=Role.DEVELOPER)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.email} to {self.tenant}"


class RefreshFamily(models.Model):
    """All refresh tokens that came from one sign-in; only the newest may be used.

    An older one that turns up again was copied: the whole family ends (RFC 9700 §4.14.2).
    """

    id = models.CharField(primary_key=True, max_length=40, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_families")
    current_jti = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "refresh families"

    def __str__(self) -> str:
        return self.id
