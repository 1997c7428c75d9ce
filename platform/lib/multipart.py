"""multipart/form-data (RFC 7578), taken apart and put together, in memory and within bounds.

A parser of our own: the standard library's is made for mail and takes lines apart, Django's wants
a request of Django's, and neither says how much of a form it will read. What is here finds the
boundary's places in the bytes and looks at nothing else of a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_PARTS = 64
MAX_HEAD = 4096  # bytes of one part's headers
MAX_VALUE = 64 * 1024  # bytes of a field that is no file
STEP = 1024 * 1024  # bytes that are searched at once

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\\r\n]{1,70})"|([^\s;",]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
_PADDING = b" \t"
# As browsers and HTML write what would end a name.
_ESCAPED = str.maketrans({'"': "%22", "\\": "%5C", "\r": "%0D", "\n": "%0A"})


class Part(NamedTuple):
    """One field. `filename` is None for what is no file."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str = ""


def parse(content_type: str, body: bytes) -> list[Part]:
    """The parts in their order. Raises ValueError, which says in plain words what is wrong."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise ValueError("Content-Type names no boundary")
    boundary = (found[1] or found[2]).encode("latin-1")
    parts = list(_parts(boundary, body))
    if not parts:
        raise ValueError("the form is empty")
    return parts


def _parts(boundary: bytes, body: bytes) -> Iterator[Part]:
    mark = b"\r\n--" + boundary
    at = 0 if body.startswith(mark[2:]) else body.find(mark) + 2
    if at == 1:
        raise ValueError("the boundary that Content-Type names is not in the body")
    at += len(mark) - 2
    for _ in range(MAX_PARTS):
        if body.startswith(b"--", at):
            return
        start, head_end = _head(body, at)
        end = _find(body, mark, head_end + 4)
        if end < 0:
            raise ValueError("the body ends before its last boundary")
        yield _part(body[start:head_end].decode("utf-8", "replace"), body[head_end + 4 : end])
        at = end + len(mark)
    if not body.startswith(b"--", at):
        raise ValueError(f"the form has more than {MAX_PARTS} parts")


def _find(body: bytes, mark: bytes, at: int) -> int:
    """`body.find`, in steps between which other threads have their turn."""
    while at < len(body):
        found = body.find(mark, at, at + STEP + len(mark))
        if found >= 0:
            return found
        at += STEP
    return -1


def _head(body: bytes, at: int) -> tuple[int, int]:
    """Where a part's headers begin and end."""
    while body[at : at + 1] and body[at : at + 1] in _PADDING:
        at += 1
    end = body.find(b"\r\n\r\n", at, at + MAX_HEAD)
    if not body.startswith(b"\r\n", at) or end < 0:
        raise ValueError("a part has no headers, or too many")
    return at + 2, end


def _part(head: str, content: bytes) -> Part:
    headers = {}
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("content-transfer-encoding", "").lower() not in _ENCODINGS:
        raise ValueError("a part is encoded; send its bytes as they are")
    told = headers.get("content-disposition", "")
    named = {each[1].lower(): each[2] or each[3] or "" for each in _PARAMETER.finditer(told)}
    if not told.lower().startswith("form-data") or not named.get("name"):
        raise ValueError("a part has no name")
    filename = named.get("filename")
    if filename is None and len(content) > MAX_VALUE:
        raise ValueError(f"a field that is no file is longer than {MAX_VALUE} bytes")
    return Part(named["name"], content, filename, headers.get("content-type", ""))


def encode(boundary: str, parts: Iterable[Part]) -> tuple[str, bytes]:
    """Content-Type and body. `boundary` must be one that none of the contents can hold."""
    pieces: list[bytes] = []
    for part in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(part.name)}"'
        if part.filename is not None:
            head += f'; filename="{_escaped(part.filename)}"'
        if part.content_type:
            head += f"\r\nContent-Type: {part.content_type}"
        pieces += [head.encode("utf-8", "replace"), b"\r\n\r\n", part.content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def _escaped(name: str) -> str:
    return name.translate(_ESCAPED)
