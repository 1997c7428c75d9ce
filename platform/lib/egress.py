"""Which addresses a call may leave for: the guard against server-side request forgery.

`ipaddress.is_global` alone lets several forms through that reach inside a network (NAT64,
6to4, Teredo, IPv4-compatible, multicast …), so they are denied by name here.
"""

from __future__ import annotations

import ipaddress

_DENIED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
        "192.88.99.0/24",
        "192.0.0.0/24",
        "fec0::/10",
    )
)


def is_public(address: str) -> bool:
    """Whether a literal address is on the public internet. Text that is no address is not."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if not ip.is_global or ip.is_multicast:
        return False
    return not any(ip in network for network in _DENIED if network.version == ip.version)
