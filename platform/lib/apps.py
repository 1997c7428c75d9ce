from django.apps import AppConfig


class LibConfig(AppConfig):
    """Holds one table, `Revision`; see lib/revision.py."""

    name = "lib"
    verbose_name = "Revisions"
