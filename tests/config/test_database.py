"""DATABASE_URL becomes Django's settings."""

from __future__ import annotations

from pathlib import Path

from config.database import database


def test_sqlite_is_relative_to_the_project_and_in_wal_mode(tmp_path: Path) -> None:
    settings = database("sqlite:///var/x%20y.sqlite3", tmp_path)
    assert settings["NAME"] == str(tmp_path / "var" / "x y.sqlite3")
    assert (tmp_path / "var").is_dir()
    assert "journal_mode=WAL" in settings["OPTIONS"]["init_command"]
    assert settings["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_an_absolute_path_stays_one(tmp_path: Path) -> None:
    assert (
        database(f"sqlite:///{tmp_path}/a.sqlite3", Path("/x"))["NAME"] == f"{tmp_path}/a.sqlite3"
    )


def test_postgresql_with_odd_characters_in_the_password() -> None:
    settings = database(
        "postgresql://us%40er:p%3A%2F%3F@db.example:6432/na%2Dme?sslmode=require", Path()
    )
    assert settings["ENGINE"].endswith("postgresql")
    assert (settings["USER"], settings["PASSWORD"]) == ("us@er", "p:/?")
    assert (settings["HOST"], settings["PORT"], settings["NAME"]) == ("db.example", "6432", "na-me")
    assert settings["OPTIONS"]["sslmode"] == "require"
    assert settings["OPTIONS"]["pool"]["max_size"] > 1
