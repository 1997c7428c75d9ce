from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Holds the commands that need the whole system: `run`, `env_example`."""

    name = "config"
    verbose_name = "Configuration"

    def ready(self) -> None:
        from config import checks  # noqa: F401 - registers the system checks
