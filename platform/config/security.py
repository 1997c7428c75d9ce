"""Which Content-Security-Policy an answer carries: the strict one, or the admin's."""

from __future__ import annotations

from typing import Any

from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.urls import reverse


class PolicyMiddleware(CSPMiddleware):
    """django-csp's, with ADMIN_CONTENT_SECURITY_POLICY for the admin's pages."""

    def get_policy_parts(self, request: Any, response: Any, report_only: bool = False) -> Any:
        parts: PolicyParts = super().get_policy_parts(request, response, report_only)
        if request.path.startswith(reverse("admin:index")):
            parts.replace = settings.ADMIN_CONTENT_SECURITY_POLICY
        return parts
