"""`manage.py run`: everything, on one machine, from nothing. `make run` calls it.

Brings the database up to date, then keeps three processes running: the sandbox (the built-in
fake upstream), the gateway and the worker. If one ends, all end.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from api.configuration import catalogue
from api.configuration.demo import PEOPLE, make_demo, new_password, read_secrets, write_secrets
from api.configuration.live import LiveProvider, enable_live
from config.supervisor import ChildDied, Supervisor
from config.welcome import welcome
from providers.catalogue import CatalogueFile, load_documents

HOST = "127.0.0.1"
READY_SECONDS = 60.0


class Command(BaseCommand):
    help = "Sets everything up and serves on 127.0.0.1 (PORT, 8000 by default)."
    requires_system_checks: list[str] = []  # they import all pages, and look at our code only

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        port, var = settings.ENV.PORT, Path(settings.VAR)
        for folder in (var, Path(settings.STATIC_ROOT)):
            folder.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(var / "run.lock")
        _check_port(port)
        supervisor = Supervisor()
        supervisor.watch_signals()
        try:
            self._serve(supervisor, port, var, began)
        except ChildDied as died:
            raise CommandError(str(died)) from None
        finally:
            supervisor.stop()
            lock.close()

    def _serve(self, supervisor: Supervisor, port: int, var: Path, began: float) -> None:
        port_file = var / "sandbox.port"
        port_file.unlink(missing_ok=True)
        supervisor.start("sandbox", _sandbox(port_file, var / "sandbox.jsonl"), {})
        secrets, live = _bring_up_to_date(var / "demo.env", f"http://{HOST}:{port}")
        if not supervisor.wait_until(port_file.exists, READY_SECONDS):
            return _unless(supervisor.stopping, "The sandbox did not start.")
        sandbox = {"SANDBOX_URL": f"http://{HOST}:{port_file.read_text().strip()}"}
        supervisor.start("gateway", _gateway(port), sandbox)
        if not supervisor.wait_until(lambda: _is_ready(port), READY_SECONDS):
            return _unless(supervisor.stopping, "The gateway did not become ready; see above.")
        supervisor.start("worker", [sys.executable, "manage.py", "worker"], sandbox)
        self.stdout.write(welcome(secrets, live, time.monotonic() - began))
        self.stdout.flush()
        return supervisor.wait()


def _unless(stopping: bool, fault: str) -> None:
    if not stopping:
        raise CommandError(fault)


def _bring_up_to_date(
    demo_file: Path, url: str
) -> tuple[Mapping[str, str], Sequence[LiveProvider]]:
    """Migrations, catalogue, demo and live providers; hardly any work when all is there."""
    with ThreadPoolExecutor() as threads:
        hashing = [threads.submit(new_password) for _ in range(0 if demo_file.exists() else PEOPLE)]
        files = _fill_database()
        made = make_demo(
            read_secrets(demo_file),
            lambda: hashing.pop().result() if hashing else new_password(),
        )
    secrets = {"PATCHBAY_URL": url} | made
    write_secrets(demo_file, secrets)
    live = enable_live(files, settings.ENV.provider_key)
    connection.close()
    return secrets, live


def _fill_database() -> Sequence[CatalogueFile]:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", verbosity=0)
    files = load_documents()
    catalogue.load(files)
    return files


def _sandbox(port_file: Path, journal: Path) -> list[str]:
    options = ["--port", "0", "--port-file", str(port_file), "--journal", str(journal)]
    return [sys.executable, "-m", "providers.sandbox", *options]


def _gateway(port: int) -> list[str]:
    """uvicorn as in production (config/server.py), in one process."""
    options = {
        "--host": HOST,
        "--port": str(port),
        "--loop": "uvloop",
        "--http": "config.http:Protocol",
        "--ws": "none",
        "--lifespan": "on",
        "--backlog": "2048",
        "--timeout-graceful-shutdown": "15",
    }
    flags = ["--no-access-log", "--no-proxy-headers", "--no-server-header"]
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", *flags]
    return command + [word for pair in options.items() for word in pair]


def _is_ready(port: int) -> bool:
    asking = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        asking.request("GET", "/readyz")
        return asking.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asking.close()


def _take_lock(path: Path) -> IO[str]:
    """One Patchbay a folder: two would count the same limits apart. Raises CommandError."""
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        lock.close()
        raise CommandError(
            f"Patchbay runs from this folder already (process {holder}). Stop that one first."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _check_port(port: int) -> None:
    """Raises CommandError when somebody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"Port {port} cannot be used ({error.strerror}). Stop what listens there, or "
                f"choose another one: PORT={port + 1 if port < 65535 else 8001} make run"
            ) from None
