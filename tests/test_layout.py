"""The rules of the tree: where things may be, and who may import whom."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("platform", "providers", "tenants", "accounts")


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if "node_modules" not in path.parts]


def test_platform_is_the_standard_librarys() -> None:
    assert platform.__file__
    assert Path(platform.__file__).parent == Path(sysconfig.get_path("stdlib"))
    assert platform.system()


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_folder_does_not_shadow_the_module_however_python_starts() -> None:
    for path in (".:platform", "platform:.", "."):
        told = subprocess.run(
            [sys.executable, "-c", "import platform, uuid; print(platform.__file__)"],
            cwd=ROOT,
            env={"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(told.stdout.strip()).parent == Path(sysconfig.get_path("stdlib"))


def test_nothing_is_a_drawer_for_leftovers() -> None:
    drawers = {"utils.py", "helpers.py", "util.py", "helper.py", "misc.py"}
    assert [path for path in sources(*CODE, "tests") if path.name in drawers] == []


def test_test_folders_are_no_packages() -> None:
    assert [path for path in sources("tests") if path.name == "__init__.py"] == []


def test_apps_use_no_signals_of_their_own() -> None:
    for path in sources(*CODE):
        imported = [
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        ]
        assert "django.dispatch" not in imported, path
        assert "django.db.models.signals" not in imported, path


def test_every_module_says_why_it_exists() -> None:
    silent = [
        path
        for path in sources(*CODE)
        if path.stat().st_size
        and path.name not in {"__init__.py", "apps.py"}
        and "migrations" not in path.parts
        and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word: str) -> None:
    own = Path(__file__).resolve()
    held = [p for p in sources(*CODE, "tests") if p != own and word in p.read_text()]
    assert held == []


def test_the_layers_hold() -> None:
    told = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": ".:platform"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-3000:]


def test_models_and_migrations_agree() -> None:
    told = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
