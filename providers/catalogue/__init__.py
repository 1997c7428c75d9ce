"""The providers that ship with Patchbay, as data: one YAML file each, nothing but data.

`load_documents` reads and checks them; loading them into the database is a command's work.
"""

from __future__ import annotations

from providers.catalogue.documents import (
    CatalogueError,
    CatalogueFile,
    catalogue_schema,
    load_documents,
    read_document,
)
from providers.catalogue.examples import Example, load_examples

__all__ = [
    "CatalogueError",
    "CatalogueFile",
    "Example",
    "catalogue_schema",
    "load_documents",
    "load_examples",
    "read_document",
]
