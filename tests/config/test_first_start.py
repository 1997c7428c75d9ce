"""A fresh clone gets secrets of its own, once, that nobody else can read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from config.environment import load
from config.first_start import new_secret, write_env, write_folder

ROOT = Path(__file__).parents[2]


def test_the_file_it_writes_starts_the_product(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert write_env(path, ROOT / ".env.dev")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    environment = load({}, env_file=path)
    assert environment.ENVIRONMENT == "dev"
    assert len({environment.SECRET_KEY, environment.KEY_PEPPER, *environment.SEALING_KEYS}) == 3


def test_what_exists_is_never_changed(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    assert not write_env(path, ROOT / ".env.dev")
    assert path.read_text() == "MINE=1\n"
    assert write_folder(tmp_path / "secrets")
    before = {p.name: p.read_text() for p in (tmp_path / "secrets").iterdir()}
    assert write_folder(tmp_path / "secrets") == []
    assert {p.name: p.read_text() for p in (tmp_path / "secrets").iterdir()} == before


def test_a_first_start_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "complete").unlink()
    assert "database_url" in write_folder(tmp_path)


def test_the_folder_starts_the_product_in_production(tmp_path: Path) -> None:
    write_folder(tmp_path)
    names = ("SECRET_KEY", "SEALING_KEYS", "KEY_PEPPER", "DATABASE_URL", "REDIS_URL")
    files = {f"{name}_FILE": str(tmp_path / name.lower()) for name in names}
    environment = load({"ENVIRONMENT": "prod", **files})
    password = (tmp_path / "postgres_password").read_text()
    assert f"postgresql://patchbay:{password}@postgres:5432/patchbay" == environment.DATABASE_URL
    assert (tmp_path / "valkey_password").read_text() in environment.REDIS_URL


def test_secrets_differ_and_are_safe_to_write_anywhere() -> None:
    secrets = {new_secret(48) for _ in range(200)}
    assert len(secrets) == 200
    assert all(secret.isalnum() and len(secret) == 48 for secret in secrets)


def test_it_runs_before_there_are_settings(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ".:platform"}
    command = [sys.executable, "-m", "config.first_start", str(tmp_path / "made")]
    told = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "secrets made" in told.stdout
    for path in (tmp_path / "made").iterdir():
        assert not path.read_text() or path.read_text() not in told.stdout
