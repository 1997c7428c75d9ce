"""The providers that ship with Patchbay, as data: one YAML file each, nothing but data.

`load_documents` reads and checks them; loading them into the database is a command's work.
"""

from __future__ import annotations

from providers.catalogue.documents import (
    CatalogueError,
    CatalogueFile,
    Line,
    catalogue_schema,
    load_documents,
    parse_document,
    read_document,
)
from providers.catalogue.examples import Example, example_of, load_examples, read_examples

__all__ = [
    "CatalogueError",
    "CatalogueFile",
    "Example",
    "Line",
    "catalogue_schema",
    "example_of",
    "load_documents",
    "load_examples",
    "parse_document",
    "read_document",
    "read_examples",
]
