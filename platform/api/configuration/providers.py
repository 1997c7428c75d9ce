"""The file's `providers`: upstreams, their credentials and models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from api.configuration.document import Place
from api.configuration.prices import apply_model_price, apply_price
from api.configuration.run import Kind, Run
from lib.inside import leads_inside
from lib.sealing import SealBroken
from providers import services
from providers.adapters.manifest import ManifestError, compile_manifest
from providers.definitions import adopt
from providers.dialects import ADAPTERS, serves
from providers.models import Credential, Model, Provider
from providers.secret_form import parts_of, written
from tenants.models import Tenant

FIELDS = (
    "name",
    "category",
    "adapter",
    "docs_url",
    "enabled",
    "needs_credential",
    "allow_private_network",
    "settings",
    "timeouts",
    "breaker",
    "retry",
    "rate_limits",
    "quotas",
    "time_zone",
)
MODEL_FIELDS = ("operation", "context", "max_output", "capabilities", "enabled")


def apply_provider(run: Run, item: Mapping[str, Any], place: Place) -> None:
    slug = item["slug"]
    row = Provider.objects.filter(slug=slug).first() or Provider(slug=slug, name=slug)
    values = {name: item[name] for name in FIELDS if name in item}
    if "base_url" in item:
        values["base_url"] = item["base_url"].rstrip("/")
    if row.pk is None:
        _complete(run, item, values, place)
    if "manifest" in item:
        values["manifest"] = _manifest(run, item, row, place)
    _check_adapter(run, values.get("adapter", row.adapter), place)
    _check_address(run, row, values, place)
    run.put(row, values, what=f"provider {slug}", place=place)
    if "manifest" in values:
        _adopt(run, row, place)
    for index, credential in enumerate(item.get("credentials", ())):
        _apply_credential(run, row, credential, (*place, "credentials", index))
    for index, model in enumerate(item.get("models", ())):
        _apply_model(run, row, model, (*place, "models", index))
    for index, price in enumerate(item.get("prices", ())):
        apply_price(run, row, price, (*place, "prices", index))


def _complete(run: Run, item: Mapping[str, Any], values: dict[str, Any], place: Place) -> None:
    """What a new provider must say, and what it need not."""
    for name in ("adapter", "base_url"):
        if name not in item:
            raise run.fault(place, f"`{name}` is missing: {item['slug']} is a new provider.")
    values.setdefault("needs_credential", bool(item.get("credentials")))


def _check_adapter(run: Run, adapter: str, place: Place) -> None:
    if adapter not in ADAPTERS:
        raise run.fault((*place, "adapter"), f"Must be one of {', '.join(ADAPTERS)}.")


def _check_address(run: Run, row: Provider, values: Mapping[str, Any], place: Place) -> None:
    if values.get("allow_private_network", row.allow_private_network):
        return
    manifest = values.get("manifest", row.manifest) or {}
    urls = {"base_url": values.get("base_url", row.base_url)}
    if token_url := manifest.get("auth", {}).get("token_url"):
        urls["manifest"] = token_url
    for field, url in urls.items():
        if (host := leads_inside(url)) is not None:
            raise run.fault(
                (*place, field),
                f"{host} is a private or loopback address. If you run this upstream yourself, add "
                "`allow_private_network: true` to the provider.",
            )


def _manifest(run: Run, item: Mapping[str, Any], row: Provider, place: Place) -> dict[str, Any]:
    """The manifest, whole: what the provider says already need not be said in it again."""
    own = {
        "schema": 1,
        "adapter": "manifest",
        "slug": row.slug,
        "name": item.get("name", row.name),
        "category": item.get("category", row.category),
        "base_url": item.get("base_url", row.base_url).rstrip("/"),
    }
    if docs_url := item.get("docs_url", row.docs_url):
        own["docs_url"] = docs_url
    manifest = {**own, **item["manifest"]}
    try:
        compile_manifest(manifest)
    except ManifestError as error:
        raise run.fault((*place, "manifest"), "; ".join(map(str, error.faults))) from None
    return manifest


def _adopt(run: Run, provider: Provider, place: Place) -> None:
    try:
        adopt(provider=provider, by="manage.py apply")
    except ValidationError as error:
        raise run.refusal((*place, "manifest"), error) from None


def _apply_credential(run: Run, provider: Provider, item: Mapping[str, Any], place: Place) -> None:
    tenant = _tenant(run, item, place)
    what = f"credential {provider.slug}/{item['name']}" + (f" of {tenant.slug}" if tenant else "")
    identity = {"provider": provider, "tenant": tenant, "name": item["name"]}
    row = Credential.objects.filter(**identity).first()
    secret = _secret(run, provider, item, place)
    if row is None:
        if not secret:
            raise run.fault(place, "`secret` is missing: this credential is new.")
        row = Credential(**identity)
        row.set_secret(secret)
    elif secret and not _holds(row, secret):
        row.set_secret(secret)
        run.save(row, place)
        run.tell(Kind.CHANGED, what, ["secret (hidden)"])
    run.put(row, {"enabled": item["enabled"]} if "enabled" in item else {}, what=what, place=place)


def _secret(run: Run, provider: Provider, item: Mapping[str, Any], place: Place) -> str:
    """The secret as it is sealed; "" where none is said. Parts may be said as an object, or as
    the JSON of one in a single variable."""
    secret = item.get("secret", "")
    secret = secret if isinstance(secret, str) else written(secret)
    form = services.secret_form(provider)
    if secret and (fault := form.fault(secret)):
        raise run.fault((*place, "secret"), fault)
    return written(parts) if form.parts and (parts := parts_of(secret)) else secret


def _tenant(run: Run, item: Mapping[str, Any], place: Place) -> Tenant | None:
    if "tenant" not in item:
        return None
    tenant: Tenant | None = Tenant.objects.filter(slug=item["tenant"]).first()
    if tenant is None:
        raise run.fault((*place, "tenant"), f"There is no tenant {item['tenant']}.")
    return tenant


def _holds(row: Credential, secret: str) -> bool:
    try:
        return row.secret() == secret
    except SealBroken:
        return False


def _apply_model(run: Run, provider: Provider, item: Mapping[str, Any], place: Place) -> None:
    row = Model.objects.filter(provider=provider, model_id=item["id"]).first()
    row = row or Model(provider=provider, model_id=item["id"])
    values = {name: item[name] for name in MODEL_FIELDS if name in item}
    operation = values.get("operation", row.operation)
    if not serves(provider.adapter, operation):
        raise run.fault(
            (*place, "operation"),
            f"The adapter {provider.adapter} has no {operation}.",
        )
    run.put(row, values, what=f"model {provider.slug}/{item['id']}", place=place)
    apply_model_price(run, provider, item, place)
