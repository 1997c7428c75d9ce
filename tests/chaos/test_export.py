"""The ledger's export of any length: constant memory, in the command and in the gateway."""

from __future__ import annotations

import csv
import datetime as dt
import http.client
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from typing import Any

import psutil
import psycopg
import pytest

from lib.ids import first_uuid7, uuid7
from tests.chaos.reporting import FIGURES
from tests.services.system import ENVIRONMENT, ROOT, System
from usage.partitions import AHEAD, Month

pytestmark = pytest.mark.chaos
MB = 2**20
FLAT = 20 * MB  # what memory may differ by
# Rows spread evenly over the months that have a partition, a millisecond each.
FILL = """
INSERT INTO usage_usagerecord (request_id, created_at, tenant_id, project_id, key_id, mode,
    operation, route, provider, model, status, code, streamed, estimate, attempts, input_tokens,
    output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, units, bytes, charge, cost,
    price_id, markup, cache, latency_ms)
SELECT substr(ms, 1, 8) || '-' || substr(ms, 9) || '-7000-8000-' || lpad(to_hex(n), 12, '0'),
    to_timestamp(at / 1000.0), 1 + n %% 5, 1, 1, 'live', 'chat.completions', 'fast', 'lab', 'gpt-x',
    200, 'ok', true, '', 1, n %% 1000, n %% 777, 0, 0, 0, 0, n %% 4096, n %% 99991, n %% 997, 1, 1500,
    '', n %% 3000
FROM (SELECT n, at, lpad(to_hex(at), 12, '0') AS ms FROM (
    SELECT n, %(begin)s::bigint + n * (%(end)s::bigint - %(begin)s::bigint) / %(rows)s AS at
    FROM generate_series(0::bigint, %(rows)s - 1) AS n) AS numbered) AS timed
"""


def memory(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def test_the_command_exports_any_number_of_rows_in_constant_memory(
    postgres_url: str, is_long: bool, record_property: Callable[[str, object], None]
) -> None:
    rows = 10_000_000 if is_long else 100_000
    first = Month.of(dt.datetime.now(dt.UTC))
    end = first.plus(AHEAD + 1).starts
    bounds = {"begin": int(first.starts.timestamp() * 1000), "end": int(end.timestamp() * 1000)}
    filling = -time.monotonic()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(FILL, bounds | {"rows": rows})
        connection.execute("ANALYZE usage_usagerecord")
        ask = "SELECT sum(charge), count(DISTINCT tableoid) FROM usage_usagerecord"
        charge, partitions = connection.execute(ask).fetchall()[0]
    filling += time.monotonic()
    assert partitions == AHEAD + 1

    command = [sys.executable, "manage.py", "export_usage", "--to", end.isoformat()]
    environment = os.environ | {
        "DATABASE_URL": postgres_url,
        "ENV_FILE": str(ENVIRONMENT),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
    }
    taken = -time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as exporting:
        assert exporting.stdout
        process, seen = psutil.Process(exporting.pid), []
        marks = iter([rows // 10, rows // 2, rows * 99 // 100, rows + 1])
        mark, found, added, last = next(marks), 0, 0, ""
        head = next(exporting.stdout).decode().strip().split(",")
        place = head.index("charge_microusd")
        for line in exporting.stdout:
            cells = line.split(b",", place + 1)
            found, added = found + 1, added + int(cells[place])
            if found == mark:
                seen.append(memory(process))
                mark = next(marks)
                request_id = cells[0].decode()
                assert request_id > last
                last = request_id
    taken += time.monotonic()
    assert exporting.returncode == 0
    assert (found, added) == (rows, charge)
    told_memory = ", ".join(f"{used / MB:.1f}" for used in seen)
    figures = (
        f"export of {rows:,} rows in {partitions} partitions (filled in {filling:.0f} s): "
        f"{rows / taken:,.0f} rows/s, MB at 10, 50 and 99 %: {told_memory}"
    )
    record_property(FIGURES, figures)
    assert max(seen) - min(seen) < FLAT, figures


def fill(system: System, tenant: int, rows: int) -> int:
    """Rows of the days before; the sum of their charges."""
    now = time.time()
    with sqlite3.connect(system.database, timeout=30) as connection:
        cells = [row[1] for row in connection.execute("PRAGMA table_info(usage_usagerecord)")]
        texts = ("mode", "operation", "provider", "model", "code", "estimate", "cache")
        nothing = ("project_id", "key_id", "user_id", "price_id")
        made = dict.fromkeys(cells, 0) | dict.fromkeys(texts, "") | dict.fromkeys(nothing)
        made |= {"tenant_id": tenant, "route": "r" * 100}
        statement = (
            f"INSERT INTO usage_usagerecord ({', '.join(made)})"
            f" VALUES ({', '.join(f':{name}' for name in made)})"
        )

        def row(number: int) -> dict[str, Any]:
            at = now - 86400 * 5 * (rows - number) / rows - 3600
            moment = dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None).isoformat(" ")
            request_id = first_uuid7(at) + uuid7()[13:]
            return made | {"request_id": request_id, "created_at": moment, "charge": number % 999}

        connection.executemany(statement, map(row, range(rows)))
    connection.close()
    return sum(number % 999 for number in range(rows))


def test_the_gateway_streams_and_a_slow_reader_costs_no_memory(
    new_system: Callable[..., System],
    record_property: Callable[[str, object], None],
) -> None:
    system = new_system()
    (tenant,) = system.rows("SELECT id FROM tenants_tenant WHERE slug = 'acme'")
    rows = 120_000  # more than a piece holds
    charge = fill(system, tenant["id"], rows)
    assert system.gateway.process
    process = psutil.Process(system.gateway.process.pid)
    headers = {"X-API-Key": system.keys["acme/live"]}

    def asked(query: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=60)
        connection.request("GET", f"/api/v1/usage/export?{query}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer

    asked("limit=5000").read()  # all that is loaded at the first time is loaded
    used, cursor, pieces, found, added = [memory(process)], "", 0, 0, 0
    taken, until_first = -time.monotonic(), -time.monotonic()
    while pieces == 0 or cursor:
        answer = asked(f"cursor={cursor}" if cursor else "")
        cursor = answer.getheader("X-Next-Cursor") or ""
        first = answer.readline()
        first_row = answer.readline()
        if pieces == 0:
            until_first += time.monotonic()
            busy = process.cpu_times().user
            while process.cpu_times().user > busy:  # until it waits for its reader
                busy = process.cpu_times().user
                time.sleep(0.1)
        used.append(memory(process))
        lines = (line.decode() for line in chain([first, first_row], answer))
        for row in csv.DictReader(lines):
            found, added = found + 1, added + int(row["charge_microusd"])
        used.append(memory(process))
        pieces += 1
    taken += time.monotonic()
    assert (pieces, found, added) == (2, rows, charge)
    figures = (
        f"export of {rows:,} rows over HTTP in {pieces} pieces: first row after "
        f"{until_first * 1000:.0f} ms, {rows / taken:,.0f} rows/s, "
        f"MB: {', '.join(f'{each / MB:.1f}' for each in used)}"
    )
    record_property(FIGURES, figures)
    assert max(used) - used[0] < FLAT, figures
