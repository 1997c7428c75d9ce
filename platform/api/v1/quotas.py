"""What quotas allow, and how much of them is used and reserved just now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.identity import Identity
from accounts.records import of_key, of_tenant
from api.permissions import identity_of
from api.serializers import Shown
from api.vitals import WORKER
from lib.clock import rfc3339, utc
from lib.money import to_usd
from lib.problems import Forbidden, InvalidRequest
from tenants.keys import Mode
from tenants.models import ApiKey, Project, Tenant
from tenants.quotas import Metric, QuotaScope
from usage.counters.claims import QuotaClaim, Used
from usage.demand import quotas_of
from usage.pace import days_left
from usage.truth import ledger_sums


class QuotaStanding(Shown):
    quota = serializers.CharField(help_text="Such as tenant-requests-day.")
    scope = serializers.CharField()
    of = serializers.CharField(help_text="Whose: a tenant's slug, a project's, a key's id …")
    metric = serializers.CharField(help_text="Cost is in µUSD.")
    window = serializers.CharField()
    hard = serializers.BooleanField(help_text="Whether calls are refused when it is used up.")
    limit = serializers.IntegerField()
    used = serializers.IntegerField(help_text="By calls that have ended.")
    reserved = serializers.IntegerField(help_text="At most, by calls that are being answered.")
    left = serializers.IntegerField()
    limit_usd = serializers.CharField(required=False, help_text="Where the metric is cost.")
    used_usd = serializers.CharField(required=False)
    days_left = serializers.FloatField(
        allow_null=True,
        help_text="Until it is used up, at the pace of its window so far; null where it lasts "
        "until it is reset, or where its pace is not known yet.",
    )
    thresholds = serializers.ListField(child=serializers.IntegerField())
    starts_at = serializers.DateTimeField()
    resets_at = serializers.DateTimeField(allow_null=True)


class QuotasStanding(Shown):
    data = QuotaStanding(many=True)  # type: ignore[assignment]  # a field, not Serializer.data


PARAMETERS = [
    OpenApiParameter("mode", str, enum=list(Mode), default=Mode.LIVE.value),
    OpenApiParameter("key", str, description="A key's id: its quotas too."),
    OpenApiParameter("route", str, description="A route's name: its quotas too."),
]


class Quotas(APIView):
    @extend_schema(
        operation_id="quotas_list", tags=["usage"], parameters=PARAMETERS, responses=QuotasStanding
    )
    def get(self, request: Request) -> Response:
        """Show your quotas: limit, used, reserved, and when each is reset."""
        identity = identity_of(request)
        if identity.tenant_id is None:
            raise Forbidden("You act for no tenant. Staff ask /internal/v1/quotas.")
        tenant = Tenant.objects.select_related("plan").get(pk=identity.tenant_id)
        key = request.query_params.get("key") or (
            f"key_{identity.key_public_id}" if identity.kind == "key" else ""
        )
        mode = mode_of(request, identity)
        route = request.query_params.get("route", "")
        return Response({"data": of_tenants(tenant, mode=mode, key=key, route=route)})


def mode_of(request: Request, identity: Identity | None = None) -> Mode:
    """As asked for, else the key's own, else live. Raises InvalidRequest."""
    own = identity.mode if identity is not None and identity.kind == "key" else Mode.LIVE
    try:
        return Mode(request.query_params.get("mode", own))
    except ValueError:
        raise InvalidRequest("`mode` is live or test.") from None


def of_tenants(
    tenant: Tenant, *, mode: Mode, key: str = "", route: str = ""
) -> list[dict[str, Any]]:
    """A tenant's quotas, its projects', and one key's. Raises Http404 for another's key."""
    now = time.time()
    whole = of_tenant(tenant, mode)
    labels = {QuotaScope.TENANT: tenant.slug, QuotaScope.ROUTE: route}
    found = [(labels, quotas_of(whole, now, route))]
    for project in Project.objects.of(tenant):
        own = {**labels, QuotaScope.PROJECT: project.slug}
        found.append((own, quotas_of(replace(whole, project_id=project.pk), now)))
    if key:
        row = ApiKey.objects.of(tenant).filter(public_id=key.removeprefix("key_")).first()
        if row is None:
            raise Http404
        own = {**labels, QuotaScope.KEY: row.key_id}
        found.append((own, quotas_of(replace(of_key(row), project_id=None), now)))
    shown: dict[tuple[str, str, int], tuple[str, QuotaClaim]] = {}
    for names, claims in found:
        for claim in claims:
            scope = claim.quota.scope
            if scope is not QuotaScope.GLOBAL:  # it tells how much all the others use
                identifier = (claim.key, claim.counter, claim.quota.limit)
                shown.setdefault(identifier, (names.get(scope, ""), claim))
    return tell(list(shown.values()))


def tell(quotas: Sequence[tuple[str, QuotaClaim]]) -> list[dict[str, Any]]:
    """Quotas with their owners' names, as they stand."""
    used = _used([claim for _, claim in quotas])
    return [
        dict(QuotaStanding(_told(name, claim, counter)).data)
        for (name, claim), counter in zip(quotas, used, strict=True)
    ]


def _used(claims: Sequence[QuotaClaim]) -> list[Used]:
    """A counter that nobody asked for yet, or whose store is away, is what the ledger says."""
    counters = WORKER.counters(claims)
    unknown = [claim for claim, counter in zip(claims, counters, strict=True) if counter is None]
    by_ledger = iter(ledger_sums(unknown))
    return [counter or Used(next(by_ledger), 0) for counter in counters]


def _told(name: str, claim: QuotaClaim, counter: Used) -> dict[str, Any]:
    quota, ends = claim.quota, claim.period.ends
    told = {
        "quota": quota.name,
        "scope": quota.scope.value,
        "of": name,
        "metric": quota.metric.value,
        "window": quota.window.value,
        "hard": quota.hard,
        "limit": quota.limit,
        "used": counter.used,
        "reserved": counter.reserved,
        "left": max(0, quota.limit - counter.used - counter.reserved),
        "days_left": days_left(claim.period, quota.limit, counter.used, time.time()),
        "thresholds": list(quota.thresholds),
        "starts_at": rfc3339(utc(claim.period.starts)),
        "resets_at": None if ends is None else rfc3339(utc(ends)),
    }
    if quota.metric is Metric.COST:
        told |= {"limit_usd": to_usd(quota.limit), "used_usd": to_usd(counter.used)}
    return told
