"""`/api/metrics` for Prometheus, over all workers where PROMETHEUS_MULTIPROC_DIR is set."""

from __future__ import annotations

import hmac
import ipaddress
import os

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from accounts.identities import IDENTITIES, identify
from api.addresses import client_address
from api.authentication import FRESHNESS
from api.problems import problem_response
from lib.problems import Forbidden, Problem


@require_safe
def metrics(request: HttpRequest) -> HttpResponseBase:
    """In the format that Accept asks for: Prometheus text or OpenMetrics."""
    try:
        _admit(request)
    except Problem as problem:
        return problem_response(problem, request)
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_registry()), content_type=content_type)


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _admit(request: HttpRequest) -> None:
    """A listed network, the token, or staff. Raises Problem."""
    address = client_address(request)
    authorization = request.headers.get("Authorization")
    if (_is_listed(address) and not _is_relayed(request)) or _is_token(authorization):
        return
    FRESHNESS.catch_up()
    identity = identify(IDENTITIES, authorization, request.headers.get("X-API-Key"), address)
    if not identity.is_staff:
        raise Forbidden("Only staff, listed networks and the metrics token may read this.")


def _is_listed(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    networks = map(ipaddress.ip_network, settings.ENV.METRICS_NETWORKS)
    return any(ip in network for network in networks if network.version == ip.version)


def _is_relayed(request: HttpRequest) -> bool:
    """Whether a proxy that TRUSTED_PROXY_HOPS does not count passed this on. Then the peer's
    address is that proxy's, often loopback, and says nothing about who asks."""
    return settings.ENV.TRUSTED_PROXY_HOPS == 0 and any(
        name in request.headers for name in ("X-Forwarded-For", "Forwarded")
    )


def _is_token(authorization: str | None) -> bool:
    token = settings.ENV.METRICS_TOKEN
    scheme, _, shown = (authorization or "").partition(" ")
    if not token or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(shown.strip().encode(), token.encode())
