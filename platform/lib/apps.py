from django.apps import AppConfig


class LibConfig(AppConfig):
    """Holds the tables `Revision` (lib/models.py) and the audit log's (lib/audit.py)."""

    name = "lib"
    verbose_name = "Audit"
