"""What may not be called: everything that can reach inside a network, in every notation."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.egress import is_public

INSIDE_V4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254",
    "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255",
]  # fmt: skip
INSIDE_V6 = [
    "::", "::1", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::169.254.169.254", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:0:53aa:64c::1", "2001:db8::1", "2001:10::1", "2001:20::1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "febf::1",
    "fec0::1", "ff02::1", "ff0e::1", "4000::1", "::ffff:0:0",
]  # fmt: skip
OUTSIDE = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.15.255.255",
    "172.32.0.1", "192.0.1.1", "192.167.255.255", "223.255.255.254",
    "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE_V4 + INSIDE_V6)
def test_what_reaches_inside_is_denied(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", INSIDE_V4)
@pytest.mark.parametrize(
    "form", ["::ffff:{}", "::FFFF:{}", "0:0:0:0:0:ffff:{}", "64:ff9b::{}", "::{}", "::ffff:0:{}"]
)
def test_no_ipv6_dress_lets_an_inner_ipv4_address_through(form: str, address: str) -> None:
    assert not is_public(form.format(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_the_public_internet_is_allowed(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "example.com", "127.1", "0x7f.1", "2130706433", "8.8.8.8:53", "[::1]",
     "8.8.8.8/32", " 8.8.8.8", "8.8.8.8\n", "08.8.8.8", "８.8.8.8", "::1]"],
)  # fmt: skip
def test_text_that_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@given(st.ip_addresses())
def test_public_is_never_wider_than_the_registry(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(str(ip)):
        plain = ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip
        assert plain.is_global and not plain.is_multicast


@given(st.ip_addresses(v=4))
def test_embedding_an_ipv4_address_never_opens_a_way(ip: ipaddress.IPv4Address) -> None:
    for prefix in ("64:ff9b::", "::", "2002::"):
        number = int(ipaddress.IPv6Address(prefix)) | int(ip) << (80 if prefix == "2002::" else 0)
        assert not is_public(str(ipaddress.IPv6Address(number)))
    assert is_public(f"::ffff:{ip}") == is_public(str(ip))


@given(st.text(max_size=60))
def test_any_text_gets_an_answer(text: str) -> None:
    assert is_public(text) in (True, False)
