"""Which addresses a call may leave for: the guard against server-side request forgery.

`ipaddress.is_global` alone lets several forms through that reach inside a network (NAT64,
6to4, Teredo, IPv4-translated, multicast …). So of IPv6 only the block that global unicast is
given out from counts (RFC 4291 §2.4), and what carries IPv4 in it is denied by name.
"""

from __future__ import annotations

import ipaddress

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_DENIED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "2002::/16",  # 6to4
        "2001::/23",  # protocol assignments, Teredo among them
        "3fff::/20",  # documentation (RFC 9637)
        "192.88.99.0/24",  # 6to4 relays
        "192.0.0.0/24",  # protocol assignments again
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
    if not ip.is_global or ip.is_multicast or (ip.version == 6 and ip not in _GLOBAL_UNICAST):
        return False
    return not any(ip in network for network in _DENIED if network.version == ip.version)
