"""Mounted at /app/."""

from __future__ import annotations

from django.urls import URLPattern, path, register_converter

from portal import (
    keys,
    overview,
    passwords,
    people,
    playground,
    quotas,
    requests,
    session,
    status,
    usage,
)

app_name = "portal"


class Id:
    """A public id, as it is."""

    regex = ""

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class KeyId(Id):
    regex = "key_[0-9A-Za-z]{12}"


class UserId(Id):
    regex = "usr_[0-9a-z]{26}"


class ProjectId(Id):
    regex = "prj_[0-9a-z]{26}"


class InvitationId(Id):
    regex = "ivt_[0-9a-z]{26}"


class Token(Id):
    regex = "[0-9A-Za-z_-]{43}"


for _converter, _name in (
    (KeyId, "key_id"),
    (UserId, "user_id"),
    (ProjectId, "project_id"),
    (InvitationId, "invitation_id"),
    (Token, "token"),
):
    register_converter(_converter, _name)

urlpatterns: list[URLPattern] = [
    path("", session.choose, name="choose"),
    path("sign-in/", session.sign_in, name="sign-in"),
    path("sign-out/", session.sign_out, name="sign-out"),
    path("sign-in/account/", passwords.account, name="account"),
    path("sign-in/forgotten/", passwords.forgotten, name="forgotten"),
    path(
        "sign-in/forgotten/<uidb64>/<token>/",
        passwords.NewPassword.as_view(),
        name="new-password",
    ),
    path("invitation/<token:token>/", people.invitation, name="invitation"),
    path("<slug:slug>/", overview.overview, name="overview"),
    path("<slug:slug>/start/", playground.start, name="start"),
    path("<slug:slug>/usage/", usage.usage, name="usage"),
    path("<slug:slug>/quotas/", quotas.quotas, name="quotas"),
    path("<slug:slug>/requests/", requests.requests, name="requests"),
    path("<slug:slug>/requests/export/", requests.export, name="requests-export"),
    path("<slug:slug>/requests/<uuid:request_id>/", requests.request, name="request"),
    path("<slug:slug>/keys/", keys.keys, name="keys"),
    path("<slug:slug>/keys/<key_id:key_id>/", keys.key, name="key"),
    path("<slug:slug>/keys/<key_id:key_id>/rotate/", keys.rotate, name="key-rotate"),
    path("<slug:slug>/keys/<key_id:key_id>/revoke/", keys.revoke, name="key-revoke"),
    path("<slug:slug>/projects/", people.projects, name="projects"),
    path("<slug:slug>/projects/<project_id:project_id>/", people.project, name="project"),
    path(
        "<slug:slug>/projects/<project_id:project_id>/delete/",
        people.delete_project,
        name="project-delete",
    ),
    path("<slug:slug>/members/", people.members, name="members"),
    path("<slug:slug>/members/<user_id:user_id>/", people.member, name="member"),
    path(
        "<slug:slug>/members/<user_id:user_id>/remove/", people.remove_member, name="member-remove"
    ),
    path(
        "<slug:slug>/invitations/<invitation_id:invitation_id>/withdraw/",
        people.withdraw_invitation,
        name="invitation-withdraw",
    ),
    path("<slug:slug>/limits/", quotas.limits, name="limits"),
    path("<slug:slug>/playground/", playground.playground, name="playground"),
    path("<slug:slug>/playground/code/", playground.code, name="code"),
    path("<slug:slug>/status/", status.status, name="status"),
    path("<slug:slug>/settings/", people.settings, name="settings"),
]
