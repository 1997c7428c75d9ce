"""TLS: whom the transport believes, and what a handshake that never ends does to it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp.connector
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.call import UpstreamRequest, Verdict
from providers.timeouts import Timeouts
from providers.transport import Transport
from tests.loops import eventually, on_loop
from tests.providers.transport.calls import HEAD, ON_UVLOOP, Subject, fault_of, read, send
from tests.providers.upstreams import Connection, Handler, Server, always, answer, serving

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass
class Certificate:
    """A key and what some authority, or the key itself, says of it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def context(self, folder: Path) -> ssl.SSLContext:
        path = folder / f"{self.certificate.serial_number}.pem"
        private = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(private + self.certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def certificate(
    name: str, *, by: Certificate | None = None, until: datetime.datetime = NOW + DAY
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = by.key if by else key
    constraints = x509.BasicConstraints(ca=by is None, path_length=None)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(by.certificate.subject if by else own)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 2 * DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(constraints, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(authority, critical=False)
    )
    return Certificate(key, builder.sign(signer, hashes.SHA256()))


AUTHORITY = certificate("Test Authority")


@contextlib.asynccontextmanager
async def encrypted(
    handler: Handler, shown: Certificate, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Transport, Server, UpstreamRequest]]:
    """A server that shows a certificate, and a transport that trusts the test's authority."""
    trusted = folder / "authority.pem"
    trusted.write_bytes(AUTHORITY.certificate.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setattr(
        aiohttp.connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context()
    )  # made when it was imported, from what was trusted then
    transport = Subject.make()
    async with serving(handler, tls=shown.context(folder)) as server:
        url = f"https://localhost:{server.port}/"
        yield transport, server, UpstreamRequest("POST", url, {}, b"secret")
        await transport.close()


@on_loop
async def test_a_server_that_a_trusted_authority_vouches_for_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = certificate("localhost", by=AUTHORITY)
    handler = always(answer(b"x" * 3_000_000))
    async with encrypted(handler, shown, tmp_path, monkeypatch) as (transport, server, request):
        for _ in range(3):
            assert len(await read(transport, request)) == 3_000_000
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    "shown",
    [
        certificate("localhost"),
        certificate("localhost", by=certificate("Test Authority")),
        certificate("elsewhere.example", by=AUTHORITY),
        certificate("localhost", by=AUTHORITY, until=NOW - DAY),
    ],
    ids=["self-signed", "unknown authority", "another's name", "expired"],
)
@on_loop
async def test_no_other_hears_a_byte_of_the_request(
    shown: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with encrypted(always(answer(b"x")), shown, tmp_path, monkeypatch) as called:
        transport, server, request = called
        for _ in range(2):
            assert await fault_of(send(transport, request)) is Verdict.UNREACHABLE
        assert server.requests == []


@on_loop
async def test_a_server_that_speaks_no_tls_is_unreachable() -> None:
    transport = Subject.make()
    async with serving(always(answer(b"plain"))) as server:
        request = UpstreamRequest("POST", f"https://localhost:{server.port}/", {}, b"secret")
        assert await fault_of(send(transport, request)) is Verdict.UNREACHABLE
        await transport.close()


@pytest.mark.parametrize("leaves", [True, False], ids=["the caller leaves", "out of time"])
@on_loop
async def test_a_handshake_that_never_ends_leaves_nothing_behind(leaves: bool) -> None:
    async def mute(connection: Connection) -> None:
        await connection.until_hang_up()

    transport = Subject.make(connections_per_pool=1)
    async with serving(mute) as server:
        request = UpstreamRequest("GET", f"https://localhost:{server.port}/", {})
        for number in range(3):
            patience = Timeouts(connect=20 if leaves else 0.5)
            task = asyncio.create_task(send(transport, request, patience))
            await eventually(lambda n=number: len(server.connections) > n)  # type: ignore[misc]
            if leaves:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            else:
                assert await fault_of(task) is Verdict.UNREACHABLE  # type: ignore[arg-type]
            left = time.perf_counter()
            await eventually(lambda n=number: server.connections[n].hung_up_at)  # type: ignore[misc]
            assert time.perf_counter() - left < 0.5
        await transport.close()


@on_loop
async def test_a_caller_may_leave_at_any_instant_of_a_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_gone(connection: Connection) -> None:
        while await connection.request():
            await connection.send(answer(b"whole"))

    shown = certificate("localhost", by=AUTHORITY)
    async with encrypted(until_gone, shown, tmp_path, monkeypatch) as (_, server, request):
        transport = Subject.make(connections_per_pool=1)
        for turns in range(60):
            task = asyncio.create_task(send(transport, request))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).close()
        assert await read(transport, request) == b"whole"
        await transport.close()
        await eventually(lambda: all(c.hung_up_at for c in server.connections))


@on_loop
async def test_letting_go_is_seen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD + b"4\r\npart\r\n")
        await connection.until_hang_up()

    shown = certificate("localhost", by=AUTHORITY)
    async with encrypted(endless, shown, tmp_path, monkeypatch) as (transport, server, request):
        response = await send(transport, request)
        assert await anext(response.chunks()) == b"part"
        left = time.perf_counter()
        response.close()
        await eventually(lambda: server.connections[0].hung_up_at)
        assert server.connections[0].hung_up_at - left < 0.5


@on_loop
async def test_a_flood_nobody_reads_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    async def flood(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(HEAD)
        while not connection.writer.is_closing():
            await connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536

    shown = certificate("localhost", by=AUTHORITY)
    async with encrypted(flood, shown, tmp_path, monkeypatch) as (transport, _, request):
        response = await send(transport, request)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 20_000_000
        taken = 0
        async for chunk in response.chunks():
            taken += len(chunk)
            if taken > 2 * before:
                break
        response.close()


@pytest.mark.parametrize("subject", [ON_UVLOOP], indirect=True)
@pytest.mark.parametrize("signed", [True, False], ids=["said so", "cut by somebody"])
@on_loop
async def test_only_the_server_may_say_that_a_body_ends_here(
    signed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sits between can close a connection, but cannot write TLS's own
    goodbye. (aiohttp believes either; asyncio's own loop does not tell which it was.)"""

    async def until_close(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n", b"part")
        if signed:
            connection.close()
        else:
            await asyncio.sleep(0.05)
            connection.writer.transport.abort()

    shown = certificate("localhost", by=AUTHORITY)
    async with encrypted(until_close, shown, tmp_path, monkeypatch) as called:
        transport, _, request = called
        if signed:
            assert await read(transport, request) == b"part"
        else:
            assert await fault_of(read(transport, request)) is Verdict.UNREACHABLE
