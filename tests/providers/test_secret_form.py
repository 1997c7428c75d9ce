"""Secrets of several parts: what is one, what is none, and what nobody gets to read."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.call import Outcome, Verdict
from providers.rejection import without
from providers.secret_form import ONE_TEXT, SecretForm, parts_of, written

PAIR = SecretForm(("client_id", "client_secret"), ("region",), whole=False)
EITHER = PAIR._replace(whole=True)
GOOD = '{"client_id": "i", "client_secret": "s"}'


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
        st.from_regex(r"[!-~]+", fullmatch=True),
        min_size=1,
    )
)
def test_what_is_written_is_read_back(parts: dict[str, str]) -> None:
    assert parts_of(written(parts)) == parts
    assert written(dict(reversed(parts.items()))) == written(parts)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "sk-x",
        "{",
        "[]",
        "{}",
        '{"a": 1}',
        '{"a": ""}',
        '{"a": "\\n"}',
        '{"a": "ü"}',
        "{'a': 'b'}",
    ],
)
def test_what_is_no_object_of_texts_has_no_parts(secret: str) -> None:
    assert parts_of(secret) == {}
    assert ONE_TEXT.fault(secret) == ""
    assert "client_id" in PAIR.fault(secret)
    assert EITHER.fault(secret) == ""


@pytest.mark.parametrize(
    ("secret", "is_right"),
    [
        (GOOD, True),
        ('{"client_id": "i", "client_secret": "s", "region": "r"}', True),
        ('{"client_id": "i"}', False),
        ('{"client_id": "i", "client_secret": "s", "clientsecret": "r"}', False),
    ],
)
def test_a_form_takes_its_own_parts_only(secret: str, is_right: bool) -> None:
    for form in (PAIR, EITHER):
        assert (form.fault(secret) == "") is is_right
        assert '"s"' not in form.fault(secret)


def test_the_sandboxs_secret_is_of_the_same_form() -> None:
    assert PAIR.fault(PAIR.of_the_sandbox("made-up")) == ""
    assert set(orjson.loads(PAIR.of_the_sandbox("made-up")).values()) == {"made-up"}
    assert ONE_TEXT.of_the_sandbox("made-up") == "made-up"


def test_every_secret_leaves_a_message_plain_or_encoded() -> None:
    told = Outcome(Verdict.AUTH, 401, "id 8a7b6c5d, key a%2Fb%3Dc, again a/b=c; ab stays")
    message = without(told, ("8a7b6c5d", "a/b=c", "", "ab")).message
    assert message == "id [redacted], key [redacted], again [redacted]; ab stays"
    assert without(told, ()) is told
