"""Whose address a call came from, behind a known number of reverse proxies."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

NOWHERE = "0.0.0.0"  # noqa: S104 - stands for "no address known"; nothing is bound to it
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]+)\](?::\d+)?\Z|(?P<v4>\d+\.\d+\.\d+\.\d+):\d+\Z")


def client_address(peer: str, forwarded_for: Iterable[str], hops: int) -> str:
    """The client's address: what the outermost of `hops` trusted proxies saw.

    `forwarded_for` holds the X-Forwarded-For header's values in the order they came. Each
    trusted proxy appended one entry, so the client is the entry `hops` from the right; all
    further left is the client's own word and never counts. A list that is too short, or an
    entry that is no address, falls back to `peer`, which nobody can forge.
    """
    if hops > 0:
        entries = [entry for value in forwarded_for for entry in value.split(",")]
        if len(entries) >= hops and (address := _address(entries[-hops])):
            return address
    return _address(peer) or NOWHERE


def _address(text: str) -> str:
    """An address in its canonical form, without a port; "" for anything else."""
    text = text.strip()
    if match := _WITH_PORT.match(text):
        text = match["v6"] or match["v4"]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return str(ip)
