"""Wrong keys cost nothing: an address that shows many is refused before anything is looked up,
whatever it says about itself."""

from __future__ import annotations

import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from accounts.identities import MAX_FAILURES
from tenants import keys
from tenants.keys import Mode
from tests.gateway.test_on_postgresql import OnPostgres
from tests.services.postgres import SYSTEM, Postgres
from tests.services.system import System

JUNK = 10_000
AT_ONCE = 100  # requests on their way on one connection
KEYS_AND_USERS = ("tenants_apikey", "accounts_user", "accounts_refreshfamily")


def junk(number: int) -> str:
    """Nothing at all, nearly a key, and a key as we make them that nobody has."""
    made = keys.generate(Mode.LIVE).text if number % 3 == 2 else ""
    return [f"junk-{number}", f"pb_live_{secrets.token_hex(16)}", made][number % 3]


def statuses(port: int, headers: Sequence[str]) -> list[int]:
    """What so many GETs are answered with, one after another on one connection."""
    found: list[int] = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        reader = connection.makefile("rb")
        for begin in range(0, len(headers), AT_ONCE):
            some = headers[begin : begin + AT_ONCE]
            connection.sendall(
                "".join(
                    f"GET /api/v1/models HTTP/1.1\r\nHost: patchbay.test\r\n{each}\r\n\r\n"
                    for each in some
                ).encode()
            )
            for _ in some:
                found.append(int(reader.readline().split()[1]))
                length = 0
                while (line := reader.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                reader.read(length)
    return found


class Statements:
    """What the database was asked, as its own log has it."""

    def __init__(self, server: Postgres, database: str) -> None:
        self.log = server.folder / "postgres.log"
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            for setting in ("log_statement = 'all'", "log_line_prefix = '%d|'"):
                target = "SYSTEM" if "prefix" in setting else f"DATABASE {database}"
                connection.execute(f"ALTER {target} SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        self.database = database
        self.seen = self.log.stat().st_size

    def new(self) -> list[str]:
        """Since the last time."""
        with self.log.open("rb") as log:
            log.seek(self.seen)
            text = log.read().decode(errors="replace")
            self.seen = log.tell()
        return [
            line
            for line in text.splitlines()
            if line.startswith(f"{self.database}|") and ("execute" in line or "statement" in line)
        ]


@pytest.fixture
def on_postgres(
    postgres_server: Postgres, cluster_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Statements]]:
    name = postgres_server.create_database(SYSTEM)
    statements = Statements(postgres_server, name)
    folder = tmp_path_factory.mktemp("bad-keys")
    system = OnPostgres(folder, DATABASE_URL=postgres_server.url(name))
    try:
        system.start(cluster_template)
        yield system, statements
    finally:
        system.stop()
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM RESET log_line_prefix")
            connection.execute("SELECT pg_reload_conf()")
        postgres_server.drop_database(name)


def test_ten_thousand_junk_keys_cost_no_query(on_postgres: tuple[System, Statements]) -> None:
    system, statements = on_postgres
    assert statuses(system.port, [f"X-API-Key: {system.keys['acme/test']}"]) == [200]
    assert any("tenants_apikey" in line for line in statements.new()), "nothing is logged"
    shown = [f"X-API-Key: {junk(number)}" for number in range(JUNK)]
    first = statuses(system.port, shown[:AT_ONCE])
    look_ups = [line for line in statements.new() if any(name in line for name in KEYS_AND_USERS)]
    assert Counter(first) == {401: MAX_FAILURES, 429: AT_ONCE - MAX_FAILURES}
    assert 0 < len(look_ups) <= MAX_FAILURES
    begun = time.perf_counter()
    rest = statuses(system.port, shown[AT_ONCE:])
    took = time.perf_counter() - begun
    asked = statements.new()
    print(
        f"{len(rest)} junk keys in {took:.2f} s ({len(rest) / took:,.0f}/s): {len(look_ups)} "
        f"look-ups for the first {MAX_FAILURES}, then none; {len(asked)} statements in all, of "
        "what polls the database anyway"
    )
    assert Counter(rest) == {429: len(rest)}
    assert [line for line in asked if any(name in line for name in KEYS_AND_USERS)] == []
    assert len(asked) <= 10 * (took + 2), asked[:20]


def forged(number: int, hops: int) -> str:
    """What a client makes up, before what the proxies in front of us append to it: the first
    the client's address, the next the first proxy's."""
    appended = ["203.0.113.7", "198.51.100.1"][:hops]
    return ", ".join([f"10.1.{number // 250}.{number % 250 + 1}", *appended])


@pytest.fixture(scope="module", params=[0, 1, 2])
def behind(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    system_template: Path,
) -> Iterator[tuple[System, int]]:
    """A system with so many trusted proxies in front of it."""
    hops = request.param
    system = System(tmp_path_factory.mktemp(f"hops-{hops}"), TRUSTED_PROXY_HOPS=str(hops))
    try:
        system.start(system_template)
        yield system, hops
    finally:
        system.stop()


def test_a_forged_address_never_counts(behind: tuple[System, int]) -> None:
    """Who makes up another address each time is refused all the same, and nobody else is."""
    system, hops = behind
    key = f"X-API-Key: {system.keys['acme/test']}"
    shown = [
        f"X-API-Key: {junk(number)}\r\nX-Forwarded-For: {forged(number, hops)}"
        for number in range(3 * MAX_FAILURES)
    ]
    assert Counter(statuses(system.port, shown)) == {401: MAX_FAILURES, 429: 2 * MAX_FAILURES}
    neighbour = ["203.0.113.8", "198.51.100.1"][:hops]
    others = [f"{key}\r\nX-Forwarded-For: {', '.join(['10.1.0.1', *neighbour])}"]
    assert statuses(system.port, others) == [200 if hops else 429]


def test_too_short_a_list_is_no_way_around(behind: tuple[System, int]) -> None:
    """Who comes past the proxies counts by the address that the connection has."""
    system, hops = behind
    shown = [
        f"X-API-Key: {junk(number)}"
        + (f"\r\nX-Forwarded-For: 10.2.0.{number % 250}" if hops != 1 else "")
        for number in range(3 * MAX_FAILURES)
    ]
    found = Counter(statuses(system.port, shown))
    assert set(found) <= {401, 429}
    assert found[401] <= MAX_FAILURES
