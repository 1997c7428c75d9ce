"""A call that comes as a form with a file (multipart/form-data): fields as its schema's types,
and the file as it is."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.exchange import Exchange
from lib.multipart import STEP, Part, parse
from lib.problems import InvalidRequest, UnsupportedMediaType
from providers.call import Call, Upload
from providers.operations import Operation, parse_query, validate

FORM = b"multipart/form-data"
FILE = "file"


async def read_form(exchange: Exchange, operation: Operation, max_bytes: int) -> Call:
    """The call, validated. Raises UnsupportedMediaType, PayloadTooLarge, InvalidRequest, HungUp."""
    if exchange.content_type() != FORM:
        raise UnsupportedMediaType("Send multipart/form-data, with the recording as `file`.")
    body = await exchange.whole_body(max_bytes)
    try:
        parts = await _parsed(exchange.header(b"content-type") or "", body)
    except ValueError as error:
        raise _invalid(f"The form cannot be read: {error}.", "") from None
    file = _file(parts)
    params = _params(operation, parts)
    if file is not None:
        params[FILE] = file.filename
    validate(operation, params)
    assert file is not None and file.filename is not None  # noqa: S101 - it is required
    upload = Upload(file.filename, _content_type(file), file.content, len(body))
    return Call(operation.name, params, b"", exchange.request_id, file=upload)


async def identified(call: Call) -> bytes:
    """JSON that says what was asked: the fields, and of the file its SHA-256. What stands between
    them in the body is another one each time that a client sends it."""
    assert call.file is not None  # noqa: S101 - the caller asked
    digest = await asyncio.to_thread(hashlib.sha256, call.file.content)
    return orjson.dumps({**call.params, FILE: digest.hexdigest()})


async def _parsed(kind: str, body: bytes) -> list[Part]:
    """A large one beside the loop, which has other calls to carry. Raises ValueError."""
    return await asyncio.to_thread(parse, kind, body) if len(body) > STEP else parse(kind, body)


def _file(parts: Sequence[Part]) -> Part | None:
    files = [part for part in parts if part.filename is not None]
    if len(files) > 1 or any(part.name != FILE for part in files):
        raise _invalid("Send one file, as the field `file`.", FILE)
    if files and not files[0].content:
        raise _invalid("The file is empty.", FILE)
    return files[0] if files else None


def _params(operation: Operation, parts: Sequence[Part]) -> dict[str, Any]:
    """What its schema says is a list may come more than once, as does a name that ends in `[]`."""
    properties = operation.request_schema["properties"]
    said: list[tuple[str, str]] = []
    lists: dict[str, list[str]] = {}
    for part in parts:
        name = part.name.removesuffix("[]")
        if part.filename is not None or name == FILE:
            continue
        text = part.content.decode("utf-8", "surrogateescape")
        if name != part.name or properties.get(name, {}).get("type") == "array":
            lists.setdefault(name, []).append(text)
        else:
            said.append((name, text))
    return parse_query(operation, said) | lists


def _content_type(file: Part) -> str:
    """What may be sent on in a header."""
    told = file.content_type
    is_plain = told.isascii() and told.isprintable() and len(told) <= 200
    return told if is_plain and told else "application/octet-stream"


def _invalid(detail: str, param: str) -> InvalidRequest:
    pointer = f"/{param}" if param else ""
    return InvalidRequest(
        detail, param=param or None, errors=[{"detail": detail, "pointer": pointer}]
    )
