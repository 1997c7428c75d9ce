from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class ConfigConfig(AppConfig):
    """Holds the commands that need the whole system: `run`, `env_example`."""

    name = "config"
    verbose_name = "Configuration"
    default = True

    def ready(self) -> None:
        from config import checks  # noqa: F401 - registers the system checks


class AdminConfig(SimpleAdminConfig):
    """The admin's pages are imported with the URLs (config/urls.py), or to be checked: a
    process that serves none starts without them."""

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(_check_pages, checks.Tags.admin)


def _check_pages(app_configs: Any, **more: Any) -> list[checks.CheckMessage]:
    admin.autodiscover()
    return check_admin_app(app_configs, **more)
