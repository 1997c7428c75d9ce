"""Data providers by manifest: a YAML document instead of Python for each.

`compile_manifest` finds every fault of a document; `ManifestAdapter` then speaks for it.
"""

from __future__ import annotations

from providers.adapters.manifest.adapter import ManifestAdapter
from providers.adapters.manifest.compiling import compile_manifest, manifest_schema
from providers.adapters.manifest.definition import Fault, Manifest, ManifestError, ManifestOperation
from providers.adapters.manifest.meter import RecordMeter

__all__ = [
    "Fault",
    "Manifest",
    "ManifestAdapter",
    "ManifestError",
    "ManifestOperation",
    "RecordMeter",
    "compile_manifest",
    "manifest_schema",
]
