"""What the page of one provider tells besides its form."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Exists, OuterRef, Q, Subquery
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from api.console.bars import bar
from api.console.standing import Standing, standings, states
from api.v1 import quotas
from api.vitals import WORKER
from billing.services import prices_in_force
from billing.versions import usd
from lib.audit import AuditEntry, object_id
from providers.breaker import FORCED, State
from providers.breakers import Figures
from providers.models import BreakerOverride, Model, Provider, Target
from providers.snapshot import allowances
from usage.demand import quotas_of_provider
from usage.models import Attempt

MOST_ROWS = 15
MOST_MODELS = 100
LOOKED_THROUGH = 20_000  # attempts of all providers, of which this one's are shown


def told(provider: Provider) -> dict[str, Any]:
    """In as many queries for a provider of much as for one of little."""
    return {
        "now": standings().get(provider.slug, Standing()).told(),
        "breakers": list(breakers_of(provider)),
        "quota_bars": _quotas(provider),
        "declared": _declared(provider.manifest),
        "models": _models(provider),
        "routes": _routes(provider),
        "attempts": _attempts(provider),
        "history": _history(provider),
        "definitions": _definitions(provider),
    }


def breakers_of(provider: Provider) -> Iterator[dict[str, Any]]:
    """The provider's own, and those of its models that do not let all calls through."""
    slug, said = provider.slug, {row.name: row for row in BreakerOverride.latest(timezone.now())}
    known = states(said.values())
    figures = {each.name: each for each in WORKER.breaker_figures()}
    of_models = [
        name
        for name, state in sorted(known.items())
        if name.startswith(f"{slug}/") and state is not State.CLOSED
    ]
    for name in (slug, *of_models[:MOST_ROWS]):
        yield {
            "name": name,
            "state": known.get(name, State.CLOSED).value,
            "figures": _as_now(figures.get(name), known.get(name, State.CLOSED)),
            "said": said.get(name) if known.get(name) in FORCED else None,
        }


def _as_now(known: Figures | None, state: State) -> Figures | None:
    """A worker's figures, but not of before staff spoke: it hears of that within a second."""
    return known if known is not None and known.state is state else None


def _quotas(provider: Provider) -> list[dict[str, Any]]:
    now = time.time()
    claims = [
        ("", claim)
        for allowance in allowances([provider])
        for claim in quotas_of_provider(allowance, now)
    ]
    return list(map(bar, quotas.tell(claims)))


def _declared(manifest: Any) -> dict[str, Any]:
    """What its definition says of what it allows, and of whom to name."""
    known = manifest if isinstance(manifest, dict) else {}
    parts = {name: known.get(name) for name in ("limits", "attribution")}
    return {name: part if isinstance(part, list) else [] for name, part in parts.items()}


def _models(provider: Provider) -> dict[str, Any]:
    rows = list(Model.objects.filter(provider=provider).order_by("model_id")[: MOST_MODELS + 1])
    prices = prices_in_force(provider)
    shown = [
        {"model": row, "price": _price(prices, row.model_id, row.operation)}
        for row in rows[:MOST_MODELS]
    ]
    own = _price(prices, "", "")
    return {"rows": shown, "more": len(rows) > MOST_MODELS, "own": own}


def _price(prices: Mapping[tuple[str, str], Any], model_id: str, operation: str) -> Any:
    """The version that holds for it: its own operation's before all others'."""
    names = (model_id, "*") if model_id else ("",)
    keys = [(name, of) for name in names for of in (operation, "")]
    price = next((prices[key] for key in keys if key in prices), None)
    if price is None:
        return None
    figures = {name: usd(price, name) for name in ("input", "output", "unit", "call")}
    return {"pk": price.pk, "from": price.effective_from, **figures}


def _routes(provider: Provider) -> list[dict[str, Any]]:
    """Those that depend on it, and whether anybody else is left to serve them."""
    others = Target.objects.filter(route=OuterRef("route"), enabled=True).exclude(provider=provider)
    mine = Target.objects.filter(provider=provider).annotate(shared=Exists(others))
    rows = mine.select_related("route", "model__provider")
    return [
        {"target": target, "alone": not target.shared}
        for target in rows.order_by("route__operation", "route__alias", "position")
    ]


def _attempts(provider: Provider) -> list[Attempt]:
    newest = Attempt.objects.order_by("-pk").values("pk")[:1]
    recent = Attempt.objects.filter(
        pk__gt=Subquery(newest) - LOOKED_THROUGH, provider=provider.slug
    )
    return list(recent.order_by("-pk")[:MOST_ROWS])


def _history(provider: Provider) -> list[dict[str, Any]]:
    """The audit log's entries about it, its credentials, targets, models and breakers, and what
    Django noted, the newest first."""
    name = provider.slug
    about = Q(kind="providers.provider", object_id=object_id(provider))
    for kind in ("credential", "model", "breakeroverride"):
        of = Q(object_name__startswith=f"{name}/") | Q(object_name__startswith=f"{name} ")
        about |= Q(of, kind=f"providers.{kind}")
    entries = AuditEntry.objects.filter(about).order_by("-at", "-id")[:MOST_ROWS]
    noted = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Provider), object_id=str(provider.pk)
    ).select_related("user")[:MOST_ROWS]
    rows: list[dict[str, Any]] = [
        {
            "at": entry.at,
            "who": entry.actor or entry.actor_kind,
            "what": f"{entry.action} {entry.kind.partition('.')[2]} {entry.object_name}",
            "detail": ", ".join(json.loads(entry.after)) if entry.action == "changed" else "",
            "where": reverse("admin:lib_auditentry_change", args=[entry.pk]),
        }
        for entry in entries
    ]
    rows += [
        {"at": each.action_time, "who": each.user, "what": each.get_change_message(), "where": ""}
        for each in noted
    ]
    return sorted(rows, key=lambda row: row["at"], reverse=True)[:MOST_ROWS]


def _definitions(provider: Provider) -> str:
    """Where its definition's versions are; "" where there is no such page."""
    try:
        return reverse("definitions", kwargs={"slug": provider.slug})
    except NoReverseMatch:
        return ""
