"""Writes the configuration file from the database: what `apply` would read back unchanged.

No secret leaves: a credential's is a placeholder, a key's was never kept.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from django.db.models import QuerySet

from api.configuration.document import escape
from api.configuration.prices import model_price_item, price_items
from api.configuration.providers import FIELDS as PROVIDER_FIELDS
from api.configuration.providers import MODEL_FIELDS
from api.configuration.routes import FIELDS as ROUTE_FIELDS
from api.configuration.tenants import DEFAULT_PROJECT, HOUSE_FIELDS, usable_keys
from api.configuration.warm import FIELDS as WARM_FIELDS
from billing.services import prices_in_force
from lib.clock import rfc3339
from lib.money import to_percent
from providers.models import Credential, Model, Provider, Route, Target
from providers.warm_models import WarmRequest
from tenants.models import ApiKey, HousePolicy, Plan, Tenant

HEADER = """\
# Patchbay's configuration, written by `manage.py export`; `manage.py apply` reads it.
# Set the variables that stand for the credentials' secrets before you apply it.
"""
Item = dict[str, Any]


def export(*, everything: bool = False) -> str:
    """The file's text. What ships with Patchbay, unchanged, is left out unless `everything`."""
    document = {
        "house": _house(),
        "plans": [_plan(row) for row in Plan.objects.order_by("slug")],
        "tenants": [_tenant(row) for row in Tenant.objects.order_by("slug")],
        "providers": _providers(everything),
        "routes": _routes(everything),
        "warm": [_warm(row) for row in _warm_requests()],
    }
    shown = {section: items for section, items in document.items() if items}
    text = yaml.safe_dump(_escaped(shown), sort_keys=False, allow_unicode=True, width=100)
    return HEADER + (text if shown else "{}\n")


class Placeholder(str):
    """Text that is a placeholder on purpose."""


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, Placeholder):
        return str(value)
    return escape(value) if isinstance(value, str) else value


def _columns(row: Any, names: tuple[str, ...]) -> Item:
    """Those that say something: nothing is left out that `apply` would then change."""
    values = {name: getattr(row, name) for name in names}
    return {name: value for name, value in values.items() if value not in (None, "")}


def _house() -> Item:
    row = HousePolicy.objects.first()
    return _columns(row, HOUSE_FIELDS) if row else {}


def _plan(row: Plan) -> Item:
    item = _columns(row, ("slug", "name", "rate_limits", "quotas", "fan_out"))
    if row.cache_hit_microusd:
        item["cache_hit_microusd"] = row.cache_hit_microusd
    return item | ({"markup_percent": to_percent(row.markup)} if row.markup else {})


def _tenant(row: Tenant) -> Item:
    names = (
        *("slug", "name", "status", "time_zone", "locale", "quotas"),
        *("allow_house_fallback", "keep_warm"),
    )
    item = _columns(row, names)
    item |= {"plan": row.plan.slug, "rate_limits": row.rate_limits}
    item["projects"] = [_columns(p, ("slug", "name")) for p in row.projects.order_by("slug")]
    newest = {key.name: key for key in reversed(usable_keys(row).select_related("project"))}
    item["keys"] = [_key(newest[name]) for name in sorted(newest)]
    return {name: value for name, value in item.items() if value != [] or name != "keys"}


def _key(row: ApiKey) -> Item:
    item = _columns(row, ("name", "mode", "scopes", "allowed_ips", "rate_limits", "quotas"))
    if row.project.slug != DEFAULT_PROJECT:
        item["project"] = row.project.slug
    if row.expires_at:
        item["expires_at"] = rfc3339(row.expires_at)
    return item


def _providers(everything: bool) -> list[Item]:
    rows = Provider.objects.prefetch_related("credentials__tenant", "models").order_by("slug")
    items = [_provider(row, everything) for row in rows]
    return [item for item in items if len(item) > 1]


def _provider(row: Provider, everything: bool) -> Item:
    """A shipped provider is only its name and what staff added to it."""
    ours = everything or row.source == Provider.Source.OPERATOR
    item: Item = {"slug": row.slug}
    if ours:
        item |= _columns(row, PROVIDER_FIELDS) | {"base_url": row.base_url}
        if row.manifest:
            item["manifest"] = row.manifest
    if credentials := [_credential(c) for c in row.credentials.all()]:
        item["credentials"] = credentials
    models = [m for m in row.models.all() if ours or m.source == Provider.Source.OPERATOR]
    if models:
        in_force = prices_in_force(row)
        item["models"] = [
            _model(m) | model_price_item(in_force.get((m.model_id, ""))) for m in models
        ]
    prices = price_items(row, ours=ours, in_models={model.model_id for model in models})
    if prices:
        item["prices"] = prices
    return item


def _credential(row: Credential) -> Item:
    item: Item = {"name": row.name, "secret": secret_variable(row), "enabled": row.enabled}
    return item | ({"tenant": row.tenant.slug} if row.tenant else {})


def secret_variable(row: Credential) -> Placeholder:
    """The placeholder for a secret, such as ${LAB_MAIN_SECRET}."""
    parts = [row.tenant.slug] if row.tenant else []
    name = re.sub(r"[^A-Z0-9]", "_", "_".join([*parts, row.provider.slug, row.name]).upper())
    return Placeholder(f"${{{'_' if name[0].isdigit() else ''}{name}_SECRET}}")


def _model(row: Model) -> Item:
    return {"id": row.model_id} | _columns(row, MODEL_FIELDS)


def _routes(everything: bool) -> list[Item]:
    rows = Route.objects.prefetch_related("targets__provider", "targets__model")
    if not everything:
        rows = rows.filter(source=Provider.Source.OPERATOR)
    return [_route(row) for row in rows.order_by("operation", "alias") if row.targets.all()]


def _route(row: Route) -> Item:
    item = _columns(row, ("alias", "operation", *ROUTE_FIELDS))
    return item | {"targets": [_target(target) for target in row.targets.all()]}


def _warm_requests() -> QuerySet[WarmRequest]:
    """Without those that manifests declare: they come with these."""
    return WarmRequest.objects.filter(provider=None).select_related("tenant")


def _warm(row: WarmRequest) -> Item:
    item = _columns(row, ("name", *WARM_FIELDS))
    return item | ({"tenant": row.tenant.slug} if row.tenant else {})


def _target(row: Target) -> Item:
    item: Item = {"provider": row.provider.slug}
    if row.model:
        item["model"] = row.model.model_id
    if row.weight != 1:
        item["weight"] = row.weight
    return item if row.enabled else item | {"enabled": False}
