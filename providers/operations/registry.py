"""Reads the operations' YAML files, once a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from providers import cache_rules
from providers.operations import merging
from providers.operations.operation import ALL_ITEMS, USUAL_ITEMS, Kind, Operation

FOLDER = Path(__file__).parent
_SHARED = "shared"


@cache
def registry() -> Mapping[str, Operation]:
    """Every operation by name, in the order of the names."""
    shared = _read(FOLDER / f"{_SHARED}.yaml")
    paths = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != _SHARED)
    return MappingProxyType(
        {path.stem: _operation(path.stem, _read(path), shared) for path in paths}
    )


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)
    return document


def _operation(name: str, document: dict[str, Any], shared: dict[str, Any]) -> Operation:
    kind = Kind(document.get("kind", Kind.DATA))
    request = {"type": "object", "additionalProperties": False, **document["request"]}
    response = {"type": "object", "additionalProperties": False, **document["response"]}
    merge = merging.parse(document.get("merge"))
    if kind is Kind.DATA:
        reserved = _reserved(shared["reserved"], merge, whole=document.get("whole", False))
        request["properties"] = {**request["properties"], **reserved}
        response["properties"] = {**response["properties"], **_added(merge)}
    category, _, verb = name.partition(".")
    return Operation(
        name=name,
        category=document.get("category", category),
        summary=document["summary"],
        kind=kind,
        method=document.get("method", "GET"),
        path=document.get("path", f"/api/v1/{category}/{verb}"),
        request_schema=request,
        response_schema=_with_used_defs(response, shared["$defs"]),
        is_list=document["response_kind"] == "list",
        as_of=document.get("as_of", ""),
        cache=cache_rules.parse(document.get("cache", {})),
        default_model=document.get("default_model", ""),
        timeouts=document.get("timeouts", {}),
        merge=merge,
        whole=document.get("whole", False),
    )


def _reserved(
    properties: dict[str, Any], merge: merging.Merge | None, *, whole: bool
) -> dict[str, Any]:
    """What every data operation takes; `strategy=merge` only where answers can be merged."""
    strategy = properties["strategy"]
    if merge is None:
        words = [word for word in strategy["enum"] if word != "merge"]
        strategy = {**strategy, "enum": words}
    usual = {"default": USUAL_ITEMS}
    limit = properties["limit"] | ({"maximum": ALL_ITEMS, "default": ALL_ITEMS} if whole else usual)
    return {**properties, "strategy": strategy, "limit": limit}


def _added(merge: merging.Merge | None) -> dict[str, Any]:
    """What an item may have besides the operation's own fields."""
    names = ["extra"]
    if merge is not None:
        names.append(merging.SPREAD if merge.median else merging.SOURCES)
    return {name: {"$ref": f"#/$defs/{name}"} for name in names}


def _with_used_defs(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Each published schema stands alone: it carries the definitions that it refers to."""
    text = repr(schema)
    return {**schema, "$defs": {name: d for name, d in defs.items() if f"#/$defs/{name}'" in text}}
