"""A provider is added with one YAML file and its examples: no Python, no migration, no setting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from api.configuration import catalogue
from providers import snapshot
from providers.catalogue import documents, examples, load_documents
from providers.sandbox import examples as played
from providers.sandbox.server import SandboxServer
from providers.transport import Http1Transport
from tenants.keys import Mode
from tests.gateway.unit.recordings import many_rigs
from tests.gateway.unit.rig import Client, Rig
from tests.providers.catalogue.test_guide import BLOCKS

SLUG = "acme"
LATEST = {
    "operation": "finance.fx_rate",
    "serve": "default",
    "params": {"base": "EUR", "quote": "SEK"},
    "request": {"method": "GET", "url": "/rates/EUR?to=SEK"},
    "response": {
        "status": 200,
        "content_type": "application/json",
        "headers": {},
        "body": {"rates": {"{{quote}}": 11.25}, "updated": 1795863600},
    },
    "expect": {"verdict": "ok"},
}
NO_PAIR = {
    **LATEST,
    "serve": "exact",
    "params": {"base": "EUR", "quote": "XTS"},
    "request": {"method": "GET", "url": "/rates/EUR?to=XTS"},
    "response": {
        "status": 404,
        "content_type": "application/json",
        "headers": {},
        "body": {"error": {"text": "no such pair"}},
    },
    "expect": {"verdict": "not_found", "message": "no such pair"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A catalogue with nothing in it but the guide's first provider."""
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    monkeypatch.setattr(played, "FOLDER", tmp_path)
    monkeypatch.setattr(examples, "FOLDER", tmp_path / "examples")
    (tmp_path / f"{SLUG}.yaml").write_text(BLOCKS[0][1], "utf-8")
    own = tmp_path / "examples" / SLUG
    own.mkdir(parents=True)
    for name, example in (("latest", LATEST), ("no-such-pair", NO_PAIR)):
        (own / f"{name}.json").write_text(json.dumps(example), "utf-8")
    yield tmp_path
    examples.load_examples.cache_clear()
    played.data_provider.cache_clear()


@pytest.mark.django_db
def test_one_file_and_its_examples_serve_a_provider(
    folder: Path,
) -> None:
    written = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert [path.suffix for path in written] == [".yaml", ".json", ".json"]
    loaded = catalogue.load(load_documents(folder))
    assert f"+ provider {SLUG}" in {str(change) for change in loaded.changes}
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)

    with SandboxServer(fsync=False) as sandbox, many_rigs() as make_rig:
        found, missing = asyncio.run(asked(make_rig, sandbox, snapshot.load()))

    assert found.status == 200, found.json
    assert found.json["data"]["rate"] == "11.25"
    assert found.json["meta"]["provider"] == SLUG
    assert found.json["meta"]["attribution"][0]["text"] == "Rates by Acme"
    assert (missing.status, missing.error["code"]) == (404, "not_found")


async def asked(make_rig: Callable[..., Rig], sandbox: SandboxServer, tables: Any) -> list[Client]:
    """A pair that there is, and one that there is not."""
    rig = make_rig(sandbox_url=sandbox.url, transport=Http1Transport())
    rig.gateway.live.snapshot = tables
    key = rig.callers.add(mode=Mode.TEST)
    path = "/api/v1/finance/fx_rate?base=EUR&quote="
    answers = [await rig.ask(path + quote, key=key) for quote in ("NOK", "XTS")]
    await rig.gateway.stop()
    return answers
