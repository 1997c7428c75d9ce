"""The oracle itself: each kind of wrong books is found, and right ones are not accused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.books import Books
from tests.chaos.client import Seen

HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: %b\r\ncontent-type: text/event-stream\r\n\r\n"


def seen(name: str, body: bytes) -> Seen:
    return Seen(HEAD % name.encode() + body, streamed=True)


def row(name: str, **changed: Any) -> dict[str, Any]:
    figures = {"input_tokens": 3, "output_tokens": 4, "charge": 11, "cost": 11}
    names = {"request_id": name, "provider": "lab", "model": "gpt-x", "estimate": ""}
    return names | {"status": 200, "code": "ok"} | figures | changed


def refused(name: str, **changed: Any) -> dict[str, Any]:
    """Asked of the provider, and then the ledger was away."""
    return row(name, status=503, code="store_unavailable", estimate="cut") | changed


def line(name: str) -> dict[str, Any]:
    told = {"input_tokens": 3, "output_tokens": 4}
    return {"request_id": name, "provider": "lab", "model": "gpt-x"} | told


WHOLE = seen("a", b"data: hi\n\ndata: [DONE]\n\n")
BROKEN = seen("a", b"data: hi\n\n")
HEADLESS = Seen(b"HTTP/1.1 200 OK\r\nx-requ", streamed=True)


@pytest.mark.parametrize(
    ("fault", "books"),
    [
        ("lost", Books([WHOLE], [], [line("a")], 0)),
        ("lost", Books([BROKEN], [], [line("a")], 0)),
        ("lost", Books([WHOLE], [row("a", estimate="crashed")], [line("a")], 0)),
        ("duplicates", Books([WHOLE], [row("a"), row("a")], [line("a")], 0)),
        ("duplicates", Books([WHOLE, WHOLE], [row("a")], [line("a")], 0)),
        ("duplicates", Books([WHOLE], [row("a")], [line("a"), line("a")], 0)),
        ("wrong", Books([WHOLE], [row("a", output_tokens=5)], [line("a")], 0)),
        ("wrong", Books([WHOLE], [row("a", charge=12)], [line("a")], 0)),
        ("wrong", Books([WHOLE], [row("a", provider="lab2")], [line("a")], 0)),
        ("wrong", Books([BROKEN], [row("a", estimate="crashed", model="")], [line("a")], 0)),
        ("wrong", Books([], [refused("a", output_tokens=5)], [line("a")], 0)),
        ("wrong", Books([BROKEN], [refused("a", output_tokens=0)], [line("a")], 0)),
        ("phantoms", Books([], [row("a")], [], 0)),
        ("open", Books([WHOLE], [row("a")], [line("a")], 1)),
        ("refused", Books([Seen(b"HTTP/1.1 503 No\r\nx: y\r\n\r\n", False)], [], [], 0)),
    ],
)
def test_what_is_wrong_is_found(fault: str, books: Books) -> None:
    assert fault in books.faults


@pytest.mark.parametrize(
    "books",
    [
        Books([WHOLE], [row("a")], [line("a")], 0),
        Books([BROKEN], [row("a")], [line("a")], 0),
        Books([BROKEN], [row("a", estimate="crashed", output_tokens=9)], [line("a")], 0),
        Books([HEADLESS], [], [line("a")], 0),
        Books([], [refused("a", output_tokens=0)], [line("a")], 0),
    ],
)
def test_what_is_right_is_not_accused(books: Books) -> None:
    assert books.faults == {}


def test_what_nobody_got_and_nobody_pays_is_counted() -> None:
    assert Books([HEADLESS], [], [line("a")], 0).unseen == ["a"]


def test_a_whole_answer_is_one_whose_last_byte_came() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"
    assert Seen(head + b'{"a":1}', streamed=False).whole
    assert not Seen(head + b'{"a":1', streamed=False).whole
    assert WHOLE.whole and not BROKEN.whole and not HEADLESS.whole
