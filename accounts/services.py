"""Every write to users and memberships: DRF, the admin and commands all come here."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from typing import Any, Final

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from accounts.models import Invitation, Membership, RefreshFamily, Role, User
from lib.models import Revision, Topic
from tenants.models import Tenant

INVITATION_LIVES: Final = dt.timedelta(days=7)


@transaction.atomic
def create_user(
    *, email: str, password: str | None = None, name: str = "", is_staff: bool = False
) -> User:
    """Without a password, one who cannot sign in until it is set. Raises ValidationError."""
    email = normal_email(email)
    validate_email(email)
    if User.objects.filter(email=email).exists():
        raise ValidationError({"email": "There is a user with this address."})
    if password is not None:
        validate_password(password, User(email=email, name=name))
    return User.objects.create_user(email, password, name=name, is_staff=is_staff)


@transaction.atomic
def set_password(*, user: User, password: str) -> User:
    """Also ends every sign-in of the user. Raises ValidationError."""
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    end_sessions(user=user)
    return user


@transaction.atomic
def end_sessions(*, user: User) -> int:
    """Every refresh token of the user, and the access tokens made from them, stop working."""
    open_families = RefreshFamily.objects.filter(user=user, revoked_at=None)
    count = open_families.update(revoked_at=timezone.now())
    Revision.bump(Topic.KEYS)
    return count


@transaction.atomic
def add_member(*, tenant: Tenant, email: str, role: str = Role.DEVELOPER) -> Membership:
    """A member by address; who is no user yet becomes one that cannot sign in until a
    password is set. Raises ValidationError."""
    _locked(tenant)
    user = User.objects.filter(email=normal_email(email)).first() or create_user(email=email)
    if Membership.objects.filter(tenant=tenant, user=user).exists():
        raise ValidationError({"email": "This person is a member already."})
    membership = Membership(tenant=tenant, user=user, role=role)
    membership.full_clean()
    membership.save()
    return membership


@transaction.atomic
def change_role(*, membership: Membership, role: str) -> Membership:
    """Raises ValidationError when it would leave the tenant without an owner."""
    _locked(membership.tenant)
    if role != Role.OWNER:
        _keep_an_owner(membership)
    membership.role = role
    membership.full_clean()
    membership.save()
    return membership


@transaction.atomic
def remove_member(*, membership: Membership) -> None:
    """Raises ValidationError when it would leave the tenant without an owner."""
    _locked(membership.tenant)
    _keep_an_owner(membership)
    membership.delete()


@transaction.atomic
def invite(*, tenant: Tenant, email: str, role: str, by: User) -> tuple[Invitation, str]:
    """An offer to join, and the secret part of its link: the only time anyone sees it. A former
    offer to the same address ends. Raises ValidationError."""
    _locked(tenant)
    email = normal_email(email)
    if Membership.objects.filter(tenant=tenant, user__email=email).exists():
        raise ValidationError({"email": "This person is a member already."})
    for former in Invitation.objects.open().filter(tenant=tenant, email=email):
        withdraw(invitation=former)
    token = secrets.token_urlsafe(32)
    row = Invitation(
        tenant=tenant,
        email=email,
        role=role,
        by=by,
        digest=_digest(token),
        expires_at=timezone.now() + INVITATION_LIVES,
    )
    row.full_clean()
    row.save()
    return row, token


def withdraw(*, invitation: Invitation) -> None:
    """Its link leads nowhere from now on. One that was accepted stays on record."""
    if invitation.accepted_at is None:
        invitation.delete()


def invited(token: str) -> Invitation | None:
    """The open invitation that a link is for."""
    rows = Invitation.objects.open().filter(digest=_digest(token))
    found: Invitation | None = rows.select_related("tenant").first()
    return found


@transaction.atomic
def accept(*, token: str, password: str | None = None, name: str = "") -> Membership:
    """Join. Who may choose a password (`may_choose`) gets this one. Raises ValidationError, also
    where the invitation has ended meanwhile."""
    row = Invitation.objects.open().select_for_update().filter(digest=_digest(token)).first()
    if row is None:
        raise ValidationError("The invitation has ended. Ask for a new one.")
    _locked(row.tenant)
    user = User.objects.filter(email=row.email).first()
    if password is not None and not may_choose(user):
        raise ValidationError("You have an account: sign in first.")
    if user is None:
        user = create_user(email=row.email, password=password, name=name)
    elif password is not None:
        set_password(user=user, password=password)
    membership = Membership.objects.filter(tenant=row.tenant, user=user).first()
    if membership is None:
        membership = Membership(tenant=row.tenant, user=user, role=row.role)
        membership.full_clean()
        membership.save()
    row.accepted_at = timezone.now()
    row.save()
    return membership


def may_choose(user: User | None) -> bool:
    """Whether the holder of an invitation's link may choose the password: where there is no
    account, or one that nobody uses yet and that opens nothing. Whoever invites may have the
    link too, and anything else would let them into what is another's."""
    if user is None:
        return True
    opens_nothing = not (user.is_staff or user.is_superuser or user.memberships.exists())
    return opens_nothing and not user.has_usable_password()


def _digest(token: str) -> str:
    """The secret has 256 random bits: a plain hash of it cannot be guessed backwards."""
    return hashlib.sha256(token.encode()).hexdigest()


def normal_email(email: str) -> str:
    """One spelling for one address: the same in look-ups, in the table and in lockouts."""
    return email.strip().lower()


def attempted_email(request: Any, credentials: dict[str, Any] | None) -> str:
    """django-axes' hook: whose password was tried, so that no spelling evades a lockout.

    Axes calls the field by the model's name for it, Django's signal says `username`.
    """
    shown = credentials if credentials else getattr(request, "POST", {})
    return normal_email(str(shown.get("username") or shown.get(User.USERNAME_FIELD) or ""))


def _locked(tenant: Tenant) -> None:
    """Changes of who belongs to a tenant happen one after the other."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)


def _keep_an_owner(membership: Membership) -> None:
    owners = Membership.objects.filter(tenant_id=membership.tenant_id, role=Role.OWNER)
    if owners.filter(pk=membership.pk).exists() and owners.count() == 1:
        raise ValidationError({"role": "A tenant keeps at least one owner. Name another first."})
