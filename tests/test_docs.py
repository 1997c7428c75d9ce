"""The documentation is kept true: what it must name is named, and what it names exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from config.environment import Environment
from lib.problems import TITLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
README = (ROOT / "README.md").read_text()


def read(*names: str) -> str:
    return "\n".join((ROOT / name).read_text() for name in names)


def test_every_setting_is_documented() -> None:
    page = read("docs/operate/settings.md")
    assert [name for name in Environment.model_fields if f"`{name}`" not in page] == []


def test_every_command_is_documented() -> None:
    page = read("docs/operate/commands.md")
    commands = [
        path.stem
        for path in ROOT.glob("*/**/management/commands/*.py")
        if not path.stem.startswith("_") and ".venv" not in path.parts
    ]
    assert len(commands) >= 8
    assert [name for name in commands if f"`manage.py {name}" not in page] == []


def test_every_code_is_documented_and_no_other() -> None:
    named = set(re.findall(r'<a id="(\w+)"></a>`\1`', read("docs/errors.md")))
    assert named == set(TITLES)


def test_every_field_of_the_configuration_file_is_documented() -> None:
    page = read("docs/configuration.md")
    schema = yaml.safe_load(read("platform/api/configuration/schema.yaml"))
    parts = (
        "house",
        "provider",
        "credential",
        "model",
        "price",
        "route",
        "target",
        "plan",
        "tenant",
        "project",
        "key",
    )
    fields = {name for part in parts for name in schema["$defs"][part]["properties"]}
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for page in PAGES:
        for name in re.findall(
            r"(?:`|^|\s)make ([a-z-]+)(?=`|\s+#|$)", page.read_text(), re.MULTILINE
        ):
            assert name in targets, f"{page.name} names `make {name}`"


def test_the_two_commands_and_the_first_calls_are_in_the_readme() -> None:
    for needed in (
        "make run",
        "make test",
        "/api/v1/chat/completions",
        "base_url=",
        "var/demo.env",
    ):
        assert needed in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_are_named_exist(page: Path) -> None:
    pattern = r"`((?:platform|providers|tenants|accounts|tests|docs|deploy)/[\w./-]+\.\w+)`"
    for name in re.findall(pattern, page.read_text()):
        if name != "platform/__init__.py":  # named as what must not be
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def tracked() -> list[Path]:
    """What belongs to the repository, whether committed yet or not."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# Paths of somebody's machine, and where packages are downloaded from: neither is the project's.
FOREIGN = re.compile(
    r"/home/\w+/|/Users/\w+/|/root/\.|(?<![\w.])/work/(?:main|shared)"
    r"|\b(?:pypi|npmjs|pythonhosted)\.(?:org|com)|(?<!no-emit-)index-url|(?<!no-emit-)find-links"
)


def test_nothing_foreign_is_in_the_repository() -> None:
    for path in tracked():
        if path == Path(__file__).resolve() or path.suffix in {".png", ".ico", ".woff2"}:
            continue
        found = FOREIGN.search(path.read_text("utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found[0] if found else ''}"


def test_every_requirement_is_pinned_by_hash() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        entries = re.split(r"\n(?=\S)", read(name).strip())
        entries = [entry for entry in entries if not entry.startswith("#")]
        assert len(entries) > 40
        assert [
            entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry
        ] == []
