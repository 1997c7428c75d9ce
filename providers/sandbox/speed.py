"""The sandbox at full speed: one precomputed answer to every POST, for benchmarks of the gateway.

No dialects, no faults, no journal: an upstream that costs as little as Python allows, so that
what is measured is the gateway in front of it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

import orjson

BODY_SIZE: Final = 500
MAX_REQUEST: Final = 16 * 1024 * 1024
_CHUNKS: Final = 20
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_STREAM: Final = re.compile(rb'"stream"\s*:\s*true')

_ID: Final = "chatcmpl-sandbox-speed"
_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": _CHUNKS, "total_tokens": 12 + _CHUNKS}


def _completion() -> bytes:
    """A chat.completion of exactly BODY_SIZE bytes."""
    document = {
        "id": _ID,
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "sandbox-speed",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "system_fingerprint": None,
    }
    missing = BODY_SIZE - len(orjson.dumps(document))
    text = ("The quick brown fox jumps over the lazy dog. " * 8)[:missing]
    document["choices"][0]["message"]["content"] = text  # type: ignore[index]
    return orjson.dumps(document)


def _events() -> bytes:
    """A whole SSE stream: the role, the words, the end, the usage, [DONE]."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": "word "} for _ in range(_CHUNKS))]
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices += [[{"index": 0, "delta": {}, "finish_reason": "stop"}], []]
    chunk = {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": "sandbox-speed",
    }
    documents = [{**chunk, "choices": choice, "usage": None} for choice in choices]
    documents[-1]["usage"] = _USAGE
    return b"".join(b"data: %b\n\n" % orjson.dumps(each) for each in documents) + b"data: [DONE]\n\n"


def _answer(content_type: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (content_type, len(body)) + body


JSON_ANSWER: Final = _answer(b"application/json", _completion())
STREAM_ANSWER: Final = _answer(b"text/event-stream", _events())
_OTHER: Final = b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class SpeedProtocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and pipelining; requests are told apart by Content-Length."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are registered as no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        answers: list[bytes] = []
        start, closing = 0, False
        while not closing and (end := buffer.find(b"\r\n\r\n", start)) >= 0:
            head = buffer[start:end]
            found = _LENGTH.search(head)
            finish = end + 4 + (int(found[1]) if found else 0)
            if len(buffer) < finish:
                break
            closing = _answered(head, buffer[end + 4 : finish], answers)
            start = finish
        self._buffer = buffer[start:]
        self._send(answers, close=closing or len(self._buffer) > MAX_REQUEST)

    def _send(self, answers: list[bytes], *, close: bool) -> None:
        if self._transport is None:
            return
        if answers:
            self._transport.write(b"".join(answers))
        if close:
            self._transport.close()


def _answered(head: bytes, body: bytes, answers: list[bytes]) -> bool:
    """Adds the answer to one request; True when the connection ends with it."""
    if not head.startswith(b"POST "):
        answers.append(_OTHER)
    elif _CHUNKED.search(head):
        answers.append(_REFUSED)
        return True
    else:
        answers.append(STREAM_ANSWER if _STREAM.search(body) else JSON_ANSWER)
    return b"lose" in head and _CLOSE.search(head) is not None
