"""Forms, taken apart and put together: the same bytes come out, and noise is refused in words."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from lib import multipart
from lib.multipart import Part, encode, parse


def _of(name: str, more: str = "") -> bytes:
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + b"x\r\n"


MODEL, FILE, END = _of("model"), _of("file", '; filename="a"'), b"--xyz--\r\n"


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_a_plain_refusal(noise: bytes) -> None:
    for body in (noise, MODEL + noise + FILE + END, noise + END):
        try:
            parse("multipart/form-data; boundary=xyz", body)
        except ValueError as error:
            assert str(error)


CONTENTS = st.binary(max_size=200).filter(lambda content: b"--xyz" not in content)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.text(min_size=1), CONTENTS, st.text())
def test_what_is_put_together_comes_apart_again(name: str, content: bytes, filename: str) -> None:
    said = name.encode("utf-8", "replace").decode()
    parts = [Part(name, content), Part("file", content, filename, "audio/wav")]
    first, file = parse(*encode("xyz", parts))
    assert (first.content, file.content, file.content_type) == (content, content, "audio/wav")
    assert first.filename is None
    if said.isalnum():
        assert first.name == said


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(st.sampled_from([b"\r\n--xy", b"\r\n--", b"xyz", b"\0"]), max_size=30))
def test_a_boundary_is_found_wherever_a_step_ends(pieces: list[bytes]) -> None:
    content = b"".join(pieces).replace(b"--xyz", b"")
    kind, body = encode("xyz", [Part("a", content), Part("file", content, "f")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "STEP", 8)
        assert [part.content for part in parse(kind, body)] == [content, content]


def test_names_cannot_break_out_of_their_line() -> None:
    name = 'a"\r\nX-Evil: 1\r\n\r\n'
    (part, file) = parse(*encode("xyz", [Part(name, b"1"), Part("file", b"2", name)]))
    assert (part.content, file.content) == (b"1", b"2")
    assert "\n" not in part.name
    assert "\n" not in (file.filename or "")
