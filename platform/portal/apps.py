from django.apps import AppConfig


class PortalConfig(AppConfig):
    """Pages only: no tables."""

    name = "portal"
    verbose_name = "Tenants' pages"
