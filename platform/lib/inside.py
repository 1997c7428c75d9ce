"""Which base URLs lead inside, as far as the text tells.

A name is resolved and judged when a call leaves (providers/transport); here only what is
plainly private is told early, with what to do about it.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from lib.egress import is_public


def leads_inside(base_url: str) -> str | None:
    """The host, where it is a private or loopback address or a name for one; else None."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    address = _address(host)
    if address is not None:
        return None if is_public(address) else host
    is_local = "." not in host or host.endswith((".localhost", ".local", ".internal"))
    return host if is_local else None


def _address(host: str) -> str | None:
    """A literal address in any spelling that a resolver takes, such as 127.1 or 2130706433."""
    if ":" in host:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None
