"""Exactly the trusted hops count, and a forged list never does."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.addresses import NOWHERE, client_address

PEER = "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        ([], 0, PEER),
        (["203.0.113.9"], 0, PEER),
        (["203.0.113.9"], 1, "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9"], 1, "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9, 198.51.100.2"], 2, "203.0.113.9"),
        (["6.6.6.6", "203.0.113.9,198.51.100.2"], 2, "203.0.113.9"),
        (["203.0.113.9"], 2, PEER),
        ([], 1, PEER),
        (["nonsense"], 1, PEER),
        (["203.0.113.9,"], 1, PEER),
        (["203.0.113.9:4711"], 1, "203.0.113.9"),
        (["[2001:db8::1]:443"], 1, "2001:db8::1"),
        (["[2001:db8::1]"], 1, "2001:db8::1"),
        (["2001:DB8:0::1"], 1, "2001:db8::1"),
        (["::ffff:203.0.113.9"], 1, "203.0.113.9"),
        (["127.1"], 1, PEER),
        (["0x7f.0.0.1"], 1, PEER),
    ],
)
def test_known_chains(forwarded: list[str], hops: int, expected: str) -> None:
    assert client_address(PEER, forwarded, hops) == expected


def test_a_socket_without_an_address() -> None:
    assert client_address("", [], 0) == NOWHERE
    assert client_address("", ["203.0.113.9"], 1) == "203.0.113.9"


@given(forged=st.lists(st.text(max_size=40)), hops=st.integers(1, 3))
def test_what_the_client_wrote_never_counts(forged: list[str], hops: int) -> None:
    trusted = ["203.0.113.9", "198.51.100.1", "198.51.100.2"][:hops]
    assert client_address(PEER, [*forged, ", ".join(trusted)], hops) == "203.0.113.9"


@given(values=st.lists(st.text(max_size=40)), hops=st.integers(0, 5), peer=st.text(max_size=20))
def test_the_answer_is_always_an_address(values: list[str], hops: int, peer: str) -> None:
    ipaddress.ip_address(client_address(peer, values, hops))
