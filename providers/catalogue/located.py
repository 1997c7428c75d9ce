"""YAML that remembers its lines, and refuses a key that is said twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_BOOL = "tag:yaml.org,2002:bool"
_MAX_DEPTH = 60
_SURROGATE = re.compile("[\ud800-\udfff]")
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
    if _SURROGATE.search(text):
        raise YamlError("Holds half a character.", 1)
    _check_depth(text)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise YamlError("Must be a mapping.", 1)
        _check_size(root, len(text))
        for key in _doubles(root):
            raise YamlError(f"`{key.value}` is said twice.", key.start_mark.line + 1)
        return LocatedDocument(loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        line = min(line, text.count("\n")) + 1  # the mark of an early end is past the end
        raise YamlError(f"No YAML: {error.problem}.", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError("Holds a character that no text has.", line) from None
    except RecursionError:
        raise YamlError("Refers to itself, or is nested too deeply.", 1) from None
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Raises YamlError. The parser calls itself for each level, in C, where no recursion is too
    deep until the process dies; so the levels are counted before it begins."""
    depth = 0
    try:
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                line = event.start_mark.line if event.start_mark else 0
                raise YamlError(f"Nested deeper than {_MAX_DEPTH} levels.", line + 1)
    except yaml.YAMLError:
        return  # told below, with its place


def _check_size(root: yaml.Node, characters: int) -> None:
    """Raises YamlError where aliases make more of a text than it says, or nest it for ever: an
    honest text has a character or more for each of its nodes."""
    nodes, level = 0, [root]
    for _ in range(_MAX_DEPTH + 1):
        nodes += len(level)
        if nodes > characters + 1:
            raise YamlError("Its aliases refer to itself, or make it far larger than its text.", 1)
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise YamlError("Refers to itself, or is nested too deeply.", level[0].start_mark.line + 1)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _doubles(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Raises YamlError for a key that is a list or a mapping itself."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("A key must be a text.", key.start_mark.line + 1)
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
