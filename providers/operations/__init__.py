"""What can be asked, whoever answers it: one YAML file an operation, read once.

A file holds the JSON Schema of the request and of one answer item. The data path validates
with them, the manifests map into them, the catalogue and the OpenAPI document show them.
"""

from __future__ import annotations

from providers.operations.checking import validate
from providers.operations.operation import OF_MODELS, RESERVED, Kind, Operation
from providers.operations.query import parse_query
from providers.operations.registry import registry

__all__ = ["OF_MODELS", "RESERVED", "Kind", "Operation", "parse_query", "registry", "validate"]
