"""The sandbox for benchmarks: one ready-made answer, as fast as one core can send it.

Whatever is asked, the answer is a chat completion of 500 bytes; with `"stream": true` in the
body, the same as 20 events. Nothing is checked, counted or written down.
"""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import orjson
import uvloop

from providers.sandbox.dialects.openai import CREATED
from providers.sandbox.server import listen, write_port

BODY_BYTES = 500
_WORDS = 16
_MODEL = "sandbox-speed"
_USAGE = {"prompt_tokens": 12, "completion_tokens": _WORDS, "total_tokens": 12 + _WORDS}

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_STREAM = re.compile(rb'"stream" ?: ?true')
_HEAD_END = b"\r\n\r\n"


def completion() -> bytes:
    """A chat completion of exactly BODY_BYTES."""
    missing = BODY_BYTES - len(_completion(""))
    return _completion(("speed " * BODY_BYTES)[:missing])


def _completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    document = _document("chat.completion", {"message": message}, "stop")
    return orjson.dumps({**document, "usage": _USAGE})


def events() -> list[bytes]:
    """Role, words, finish reason, usage and [DONE]: 20 events."""
    deltas = [{"role": "assistant", "content": ""}, *({"content": "speed "} for _ in range(_WORDS))]
    kind = "chat.completion.chunk"
    documents = [_document(kind, {"delta": delta}, None) for delta in deltas]
    documents.append(_document(kind, {"delta": {}}, "stop"))
    documents.append({**_document(kind, {}, None), "choices": [], "usage": _USAGE})
    return [b"data: " + orjson.dumps(each) + b"\n\n" for each in documents] + [b"data: [DONE]\n\n"]


def _document(kind: str, said: dict[str, object], finish: str | None) -> dict[str, object]:
    choice = {"index": 0, **said, "finish_reason": finish}
    head = {"id": "chatcmpl-speed", "object": kind, "created": CREATED, "model": _MODEL}
    return {**head, "choices": [choice]}


def _whole_response() -> bytes:
    body = completion()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _stream_response() -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
    return head + b"".join(chunks) + b"0\r\n\r\n"


WHOLE = _whole_response()
STREAM = _stream_response()
# A chunked body would be read as the next request.
REFUSED = b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Speed(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and pipelining; bodies by content-length only. Answers `after`
    seconds."""

    def __init__(self, after: float = 0.0) -> None:
        self._after = after
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        answers: list[bytes] = []
        while (end := data.find(_HEAD_END)) >= 0:
            end += len(_HEAD_END)
            length = _LENGTH.search(data, 0, end)
            total = end + int(length[1]) if length else end
            if len(data) < total:
                break
            if _CHUNKED.search(data, 0, end):
                self._close([*answers, REFUSED])
                return
            answers.append(STREAM if _STREAM.search(data, end, total) else WHOLE)
            if _CLOSE.search(data, 0, end):
                self._close(answers)
                return
            data = data[total:]
        self._rest = data
        if not answers:
            return
        answer = answers[0] if len(answers) == 1 else b"".join(answers)
        if self._after:
            asyncio.get_running_loop().call_later(self._after, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if self._transport:
            self._transport.write(answer)

    def _close(self, answers: list[bytes]) -> None:
        if self._transport:
            self._transport.write(b"".join(answers))
            self._transport.close()


def run_speed(*, port: int, port_file: Path | None, after: float) -> None:
    """Serves until SIGTERM or SIGINT."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        sock = listen(port)
        server = await loop.create_server(lambda: Speed(after), sock=sock)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        write_port(port_file, sock)
        await stop.wait()
        server.close()

    uvloop.run(serve())
