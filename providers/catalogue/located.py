"""YAML that remembers its lines, and refuses a key that is said twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_BOOL = "tag:yaml.org,2002:bool"
_NOT_IN_CORE = frozenset({_BOOL, "tag:yaml.org,2002:timestamp"})


class YamlError(ValueError):
    """The text is no YAML that can be used. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class LocatedDocument:
    """A mapping with the tree it was made from."""

    document: dict[str, Any]
    root: yaml.Node

    def line(self, place: tuple[str | int, ...]) -> int:
        """The line of the deepest part of `place` that exists."""
        node = self.root
        for step in place:
            child = _child(node, step)
            if child is None:
                break
            node = child
        return int(node.start_mark.line) + 1


class _Loader(yaml.CSafeLoader):
    """YAML 1.2's core: a day and `no` (Norway) are texts; only true and false are booleans."""

    yaml_implicit_resolvers = {
        initial: [(tag, regexp) for tag, regexp in resolvers if tag not in _NOT_IN_CORE]
        for initial, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|false)$"), list("tf"))


def read_yaml(text: str) -> LocatedDocument:
    """Raises YamlError."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise YamlError("Must be a mapping.", 1)
        for key in _doubles(root):
            raise YamlError(f"`{key.value}` is said twice.", key.start_mark.line + 1)
        return LocatedDocument(loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        line = min(line, text.count("\n")) + 1  # the mark of an early end is past the end
        raise YamlError(f"No YAML: {error.problem}.", line) from None
    except RecursionError:
        raise YamlError("Refers to itself, or is nested too deeply.", 1) from None
    finally:
        loader.dispose()


def _doubles(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _doubles(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _doubles(item)


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item: yaml.Node = node.value[step]
        return item
    return None
