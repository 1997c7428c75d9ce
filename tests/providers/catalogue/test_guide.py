"""The guide to manifests is true: what it shows compiles, and what there is is in it."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.adapters.manifest import compile_manifest, manifest_schema
from providers.adapters.manifest.transforms import NAMES
from providers.adapters.manifest.transforms.numeric import UNITS
from providers.catalogue.located import read_yaml
from tests.shipped import FILES

GUIDE = (Path(__file__).parents[3] / "docs/providers/writing-a-manifest.md").read_text("utf-8")
BLOCKS = re.findall(r"^```yaml ?(.*?)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
WHOLE: dict[str, Any] = read_yaml(BLOCKS[0][1]).document


def as_manifest(kind: str, text: str) -> dict[str, Any]:
    """A block of the guide in a manifest around it."""
    document = copy.deepcopy(WHOLE)
    if not kind:
        return read_yaml(text).document
    if kind == "errors":
        document["errors"] = yaml.safe_load(text)
    elif kind == "top":
        document |= yaml.safe_load(text)
    else:
        operation = kind.removeprefix("operation ")
        document["operations"] = {operation: yaml.safe_load(text)}
        params = {"base": "EUR", "quote": "USD"} if operation == "finance.fx_rate" else {"q": "x"}
        document["verification"] = {"operation": operation, "params": params}
    return document


def test_there_is_something_to_check() -> None:
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize(
    ("kind", "text"), BLOCKS, ids=[f"{i}-{b[0]}" for i, b in enumerate(BLOCKS)]
)
def test_what_the_guide_shows_compiles(kind: str, text: str) -> None:
    compile_manifest(as_manifest(kind, text))


def test_every_word_of_the_language_is_in_the_guide() -> None:
    schema = manifest_schema()
    words = set(NAMES) | set(UNITS)
    for part in ("request", "step", "operation", "rule", "spec"):
        words |= set(schema["$defs"][part]["properties"])
    words |= set(schema["$defs"]["operation"]["properties"]["page"]["properties"])
    words |= set(schema["$defs"]["rule"]["properties"]["when"]["properties"])
    words |= set(schema["$defs"]["rule"]["properties"]["as"]["enum"])
    words |= set(schema["$defs"]["request"]["properties"]["body"]["properties"])
    for part in ("auth", "credential"):
        words |= set(schema["$defs"][part]["properties"])
    words |= set(schema["$defs"]["auth"]["properties"]["type"]["enum"])
    words |= set(schema["properties"])
    assert [word for word in sorted(words) if not re.search(rf"\b{word}\b", GUIDE)] == []


def test_the_guide_counts_right() -> None:
    assert f"{sum(1 for file in FILES if file.manifest)} manifests" in GUIDE
