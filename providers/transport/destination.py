"""Where a provider's URL leads: taking it apart, looking its name up, and making a connection
to just the addresses that were judged, so that a second answer of the name server changes
nothing."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from functools import lru_cache, partial

import aiohappyeyeballs

from lib.egress import is_public
from providers.transport import interface
from providers.transport.interface import PrivateAddress

REMEMBERED = 30.0  # seconds for which a name's addresses are used again
NEXT_ADDRESS = 0.25  # seconds until a name's next address is tried beside the first (RFC 8305)

# Of RFC 3986 no more than a provider's base URL needs: no user, no zone, nothing to unescape
# in the host, and only visible ASCII after it.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]]+\]|[^/?#@:\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:[/?][!-\"$-~]*)?)(?:#[!-~]*)?",
    re.IGNORECASE,
)
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[0-9a-z._-]+")


@dataclass(frozen=True, slots=True)
class Destination:
    """`authority` and `path` are what a request says in its Host header and its first line."""

    secure: bool
    host: str
    port: int
    authority: str
    path: str


@lru_cache(maxsize=1024)
def destination_of(url: str) -> Destination:
    """Raises ValueError for what nothing can be sent to."""
    found = _URL.fullmatch(url)
    if not found:
        raise ValueError("no http URL")
    secure = found["scheme"].lower() == "https"
    host = found["host"].lower()
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if not _HOST.fullmatch(host):  # IDNA lets more through than a name may have
        raise ValueError("no host")
    usual = 443 if secure else 80
    port = int(found["port"] or usual)
    if port > 65535:
        raise ValueError("no such port")
    authority = host if port == usual else f"{host}:{port}"
    path = found["path"]
    return Destination(
        secure, host.strip("[]"), port, authority, path if path.startswith("/") else f"/{path}"
    )


class Lookups:
    """Names, and the addresses that they stand for at present."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], asyncio.Task[list[aiohappyeyeballs.AddrInfoType]]] = {}

    async def addresses(
        self, host: str, port: int, *, allow_private: bool
    ) -> list[aiohappyeyeballs.AddrInfoType]:
        """Literal addresses come this way too: the system reads 127.1 and 0x7f.1 as such.

        Raises OSError, PrivateAddress when any of them is not public, or UnicodeError.
        """
        key = (host, port)
        task = self._known.get(key)
        if task is None:
            task = self._known[key] = asyncio.create_task(_look_up(host, port))
            task.add_done_callback(partial(self._remember, key))
        infos = await asyncio.shield(task)  # others may wait for it when this caller leaves
        if not allow_private and not all(is_public(str(info[4][0])) for info in infos):
            raise PrivateAddress
        return infos

    def _remember(
        self, key: tuple[str, int], task: asyncio.Task[list[aiohappyeyeballs.AddrInfoType]]
    ) -> None:
        if task.cancelled() or task.exception():
            self._known.pop(key, None)
        else:
            task.get_loop().call_later(REMEMBERED, self._known.pop, key, None)


async def _look_up(host: str, port: int) -> list[aiohappyeyeballs.AddrInfoType]:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not infos:
        raise OSError("the name stands for no address")
    return list(infos)


async def connected(infos: list[aiohappyeyeballs.AddrInfoType]) -> socket.socket:
    """A connection to whichever address answers first. Raises OSError."""
    return await aiohappyeyeballs.start_connection(
        infos, happy_eyeballs_delay=NEXT_ADDRESS, interleave=1, socket_factory=provider_socket
    )


def provider_socket(address: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """Ends by itself when the provider takes nothing any more. What we let go of with bytes
    still unsent would otherwise stay, with those bytes, for as long as the provider likes."""
    family, kind, protocol, *_ = address
    connection = socket.socket(family, kind, protocol)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, interface.DEAF_MS)
    return connection
