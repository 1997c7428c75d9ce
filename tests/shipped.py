"""The catalogue as it ships, read once for all tests of a process."""

from __future__ import annotations

from providers.catalogue import load_documents

FILES = load_documents()
