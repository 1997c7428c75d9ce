"""The file's `house`, `plans` and `tenants`: who may call, how much, with which keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from api.configuration.document import Place
from api.configuration.run import Kind, Run
from lib.money import to_hundredths
from tenants.keys import Mode
from tenants.limits import DEFAULT_RATE_LIMITS
from tenants.models import ApiKey, HousePolicy, Plan, Project, Tenant
from tenants.scopes import check_scopes
from tenants.services import create_key, revoke_key

DEFAULT_PROJECT = "default"
PLAN_FIELDS = ("name", "rate_limits", "quotas", "cache_hit_microusd", "fan_out")
TENANT_FIELDS = (
    "name",
    "status",
    "time_zone",
    "locale",
    "rate_limits",
    "quotas",
    "allow_house_fallback",
    "keep_warm",
)
KEY_FIELDS = ("allowed_ips", "rate_limits", "quotas")
HOUSE_FIELDS = ("rate_limits", "quotas", "time_zone")


def apply_house(run: Run, item: Mapping[str, Any], place: Place) -> None:
    run.put(HousePolicy.current(), item, what="house", place=place)


def apply_plan(run: Run, item: Mapping[str, Any], place: Place) -> None:
    slug = item["slug"]
    row = Plan.objects.filter(slug=slug).first()
    row = row or Plan(slug=slug, name=slug, rate_limits=DEFAULT_RATE_LIMITS)
    values = {name: item[name] for name in PLAN_FIELDS if name in item}
    if "markup_percent" in item:
        values["markup"] = _markup(run, item["markup_percent"], (*place, "markup_percent"))
    run.put(row, values, what=f"plan {slug}", place=place)


def _markup(run: Run, percent: str | float, place: Place) -> int:
    try:
        return to_hundredths(str(percent))
    except ValueError:
        raise run.fault(place, "Must be per cent with at most two decimals.") from None


def apply_tenant(run: Run, item: Mapping[str, Any], place: Place) -> None:
    slug = item["slug"]
    row = Tenant.objects.filter(slug=slug).first() or Tenant(slug=slug, name=slug)
    values = {name: item[name] for name in TENANT_FIELDS if name in item}
    is_new = row.pk is None
    if "plan" in item:
        values["plan_id"] = _plan(run, item["plan"], place)
    elif is_new:
        raise run.fault(place, f"`plan` is missing: {slug} is a new tenant.")
    run.put(row, values, what=f"tenant {slug}", place=place)
    projects = item.get("projects") or ([{"slug": DEFAULT_PROJECT}] if is_new else [])
    for index, project in enumerate(projects):
        _apply_project(run, row, project, (*place, "projects", index))
    for index, key in enumerate(item.get("keys", ())):
        _apply_key(run, row, key, (*place, "keys", index))


def _plan(run: Run, slug: str, place: Place) -> int:
    plan: Plan | None = Plan.objects.filter(slug=slug).first()
    if plan is None:
        raise run.fault((*place, "plan"), f"There is no plan {slug}.")
    return plan.pk


def _apply_project(run: Run, tenant: Tenant, item: Mapping[str, Any], place: Place) -> None:
    slug = item["slug"]
    row = Project.objects.of(tenant).filter(slug=slug).first()
    row = row or Project(tenant=tenant, slug=slug, name=slug)
    values = {"name": item["name"]} if "name" in item else {}
    run.put(row, values, what=f"project {tenant.slug}/{slug}", place=place)


def _apply_key(run: Run, tenant: Tenant, item: Mapping[str, Any], place: Place) -> None:
    """Found by its name; its secret is made once and never changes here."""
    key = usable_keys(tenant).filter(name=item["name"]).first()
    label = f"{tenant.slug}/{item['name']}"
    try:
        if item.get("revoked"):
            _revoke(run, key, label)
        elif key is None:
            _, run.keys[label] = _create(run, tenant, item, place)
            run.tell(Kind.ADDED, f"key {label}", [f"mode {item.get('mode', Mode.LIVE)}"])
        else:
            _update(run, key, item, place)
    except ValidationError as error:
        raise run.refusal(place, error) from None


def usable_keys(tenant: Tenant) -> Any:
    """A tenant's keys that are neither revoked nor expired, newest first."""
    keys = ApiKey.objects.of(tenant).filter(revoked_at=None).order_by("-created_at", "-pk")
    return keys.exclude(expires_at__lte=timezone.now())


def _revoke(run: Run, key: ApiKey | None, label: str) -> None:
    if key is not None:
        revoke_key(key=key)
        run.tell(Kind.REMOVED, f"key {label}", ["revoked"])


def _create(run: Run, tenant: Tenant, item: Mapping[str, Any], place: Place) -> tuple[ApiKey, str]:
    return create_key(
        project=_project(run, tenant, item, place),
        name=item["name"],
        mode=Mode(item.get("mode", Mode.LIVE)),
        scopes=item.get("scopes", ["*"]),
        allowed_ips=item.get("allowed_ips", []),
        rate_limits=item.get("rate_limits"),
        quotas=item.get("quotas", []),
        expires_at=_moment(item.get("expires_at")),
    )


def _update(run: Run, key: ApiKey, item: Mapping[str, Any], place: Place) -> None:
    if item.get("mode", key.mode) != key.mode:
        raise run.fault((*place, "mode"), f"The key is a {key.mode} key for ever. Make another.")
    values = {name: item[name] for name in KEY_FIELDS if name in item}
    if "scopes" in item:
        values["scopes"] = check_scopes(item["scopes"])
    if "project" in item:
        values["project_id"] = _project(run, key.tenant, item, place).pk
    if "expires_at" in item:
        values["expires_at"] = _moment(item["expires_at"])
    run.put(key, values, what=f"key {key.tenant.slug}/{key.name}", place=place)


def _project(run: Run, tenant: Tenant, item: Mapping[str, Any], place: Place) -> Project:
    slug = item.get("project", DEFAULT_PROJECT)
    projects = Project.objects.of(tenant)
    project: Project | None = projects.filter(slug=slug).first()
    if project is None and "project" not in item and projects.count() == 1:
        project = projects.get()
    if project is None:
        raise run.fault(place, f"{tenant.slug} has no project {slug}. Name the key's `project`.")
    return project


def _moment(text: str | None) -> dt.datetime | None:
    """RFC 3339, as the schema made sure."""
    return None if text is None else dt.datetime.fromisoformat(text)
