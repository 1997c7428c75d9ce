from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.addresses import NOWHERE, client_address

PEER = "198.51.100.7"
forged = st.lists(st.text(max_size=30), max_size=5)


@given(forged)
def test_without_proxies_the_header_is_never_believed(values: list[str]) -> None:
    assert client_address(PEER, values, 0) == PEER


@given(forged, st.integers(1, 4))
def test_what_stands_left_of_our_proxies_never_counts(values: list[str], hops: int) -> None:
    ours = [f"203.0.113.{number}" for number in range(1, hops + 1)]
    assert client_address(PEER, [*values, ", ".join(ours)], hops) == ours[0]


@given(st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2"]), max_size=3), st.integers(1, 5))
def test_a_header_shorter_than_our_proxies_is_a_forgery(values: list[str], more: int) -> None:
    assert client_address(PEER, values, len(values) + more) == PEER


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:c000:201]:1", "192.0.2.1"),
    ],
)
def test_one_address_has_one_spelling(entry: str, address: str) -> None:
    assert client_address(PEER, [entry], 1) == address


@pytest.mark.parametrize(
    "entry",
    ["", "unknown", "_hidden", "192.0.2.1 x", "192.0.2", "192.0.2.1:x", "[::1", "::1]:80",
     "192.0.2.01", "1.2.3.4:5:6", "[]", "[x]:1", "１.2.3.4", "192.0.2.1\n:80"],
)  # fmt: skip
def test_an_entry_that_is_no_address_falls_back_to_the_peer(entry: str) -> None:
    assert client_address(PEER, [entry], 1) == PEER


def test_several_header_lines_are_one_list() -> None:
    values = ["1.1.1.1", "192.0.2.1, 192.0.2.2"]
    assert client_address(PEER, values, 2) == "192.0.2.1"
    assert client_address(PEER, values, 3) == "1.1.1.1"


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=3), st.integers(-1, 4))
def test_the_answer_is_always_an_address(peer: str, values: list[str], hops: int) -> None:
    ipaddress.ip_address(client_address(peer, values, hops))


def test_no_peer_is_nowhere() -> None:
    assert client_address("", [], 0) == NOWHERE
    assert client_address("unix:", ["x"], 1) == NOWHERE
