"""`manage.py resilience` on a real database: what it shows, checks, advises and changes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from api.configuration.applying import apply
from api.configuration.document import read
from lib.models import Revision
from providers.models import Provider
from tests.factories import AttemptFactory, ProviderFactory, UsageRecordFactory
from usage import rollups

pytestmark = pytest.mark.django_db


def said(*arguments: str) -> str:
    out = io.StringIO()
    call_command("resilience", *arguments, stdout=out)
    return out.getvalue()


def test_list_marks_what_is_in_force(settings: Any) -> None:
    settings.RESILIENCE_PRESET = "development"
    for slug in ("b", "a"):
        ProviderFactory(slug=slug, breaker={"preset": "production"})
    ProviderFactory(slug="odd", breaker=[])
    simple, development, production, note = said("list").splitlines()
    assert simple.startswith("  simple") and "3 tries" in simple and "60 s" in simple
    assert development.startswith("* development")
    assert production.endswith("named by a, b")
    assert "RESILIENCE_PRESET" in note


def test_show_says_where_each_number_is_from(settings: Any) -> None:
    settings.RESILIENCE = {"retry": {"budget_percent": 9}}
    ProviderFactory(slug="lab", breaker={"preset": "production", "provider": {"minimum_calls": 7}})
    told = {line.split()[0]: line for line in said("show", "lab").splitlines()}
    assert told["retry/max_attempts"].endswith("provider, preset production")
    assert told["retry/budget_percent"].endswith("house")
    assert told["breaker/permitted_probes"].endswith("default")
    assert told["breaker/provider/minimum_calls"].split()[1:] == ["7", "provider"]
    house = said("show")
    assert "breaker/provider" not in house and "environment, preset simple" in house
    with pytest.raises(CommandError, match="no provider nobody"):
        said("show", "nobody")


def test_validate_reads_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.json"
    path.write_text('{"breaker": {"preset": "production"}}')
    assert said("validate", str(path)) == "1 checked, no faults\n"
    bad = b'{"retry": {"max_attempts": 0}, "breaker": {"window": {"type": "time"}}}'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bad)))
    with pytest.raises(CommandError, match="-: retry/max_attempts: Must be at least 1"):
        said("validate", "-")
    for content in (b"{", b"\xff", b""):
        path.write_bytes(content)
        with pytest.raises(CommandError, match="is no JSON: line 1"):
            said("validate", str(path))
    with pytest.raises(CommandError, match="cannot be read"):
        said("validate", str(tmp_path / "none"))


def test_validate_names_every_row_with_a_fault() -> None:
    ProviderFactory(slug="good", breaker={"preset": "simple"})
    assert said("validate") == "1 checked, no faults\n"
    ProviderFactory(slug="a", retry={"max_attempts": 0})
    ProviderFactory(slug="b", breaker={"window": {"type": "count"}}, retry=[])
    with pytest.raises(CommandError) as caught:
        said("validate")
    assert caught.value.returncode == 1
    assert [line.rpartition(": ")[0] for line in str(caught.value).splitlines()] == [
        "a: retry/max_attempts",
        "b: retry",
    ]
    with pytest.raises(CommandError, match=r"^a: retry/max_attempts"):
        said("validate", "--provider", "a")
    assert said("validate", "--provider", "good") == "1 checked, no faults\n"


def test_migrate_shows_and_then_does_it() -> None:
    kept = {"open_seconds": 5, "provider": {"minimum_calls": 9}}
    ProviderFactory(slug="lab", breaker={"preset": "development", **kept}, source="builtin")
    ProviderFactory(slug="other", breaker={"preset": "simple"})
    ProviderFactory(slug="none")
    move = ("migrate", "--from", "development", "--to", "production")
    before = Revision.numbers()
    told = said(*move, "--dry-run")
    assert told.splitlines() == [
        "~ provider lab: breaker preset development → production",
        "1 changes, none made (--dry-run)",
    ]
    assert Provider.objects.get(slug="lab").breaker["preset"] == "development"
    assert Revision.numbers() == before
    assert said(*move).splitlines()[-1] == "1 changes made"
    lab = Provider.objects.get(slug="lab")
    assert (lab.breaker, lab.source) == ({"preset": "production", **kept}, "operator")
    assert Provider.objects.get(slug="other").breaker == {"preset": "simple"}
    assert said(*move) == "nothing to change\n"
    with pytest.raises(CommandError, match="invalid choice"):
        said("migrate", "--from", "none", "--to", "simple")


def test_migrate_changes_nothing_when_one_cannot_be_changed() -> None:
    ProviderFactory(slug="a", breaker={"preset": "simple"})
    ProviderFactory(slug="b", breaker={"preset": "simple", "minimum_calls": 0})
    with pytest.raises(CommandError, match="Nothing was changed: minimum_calls"):
        said("migrate", "--from", "simple", "--to", "production")
    assert Provider.objects.get(slug="a").breaker == {"preset": "simple"}


def test_recommend_prints_what_apply_reads() -> None:
    ProviderFactory(slug="lab", breaker={"preset": "production", "open_seconds": 5})
    ProviderFactory(slug="idle")
    for number in range(120):
        row = UsageRecordFactory(latency_ms=700, attempts=1, code="x" if number < 60 else "ok")
        if number < 60:
            AttemptFactory(request_id=row.request_id, verdict="timeout")
    rollups.rebuild()
    text = said("recommend")
    assert "# idle: 0 live attempts in 7 days; from 100 on" in text
    assert "60 of 120 attempts failed (50 %)" in text
    (item,) = yaml.safe_load(text)["providers"]
    assert item["breaker"] | {"preset": "production", "open_seconds": 5} == item["breaker"]
    assert item["breaker"]["consecutive_failures"] == 20
    assert item["breaker"]["slow_call_seconds"] == 2.0
    apply(read(text, {}))
    assert Provider.objects.get(slug="lab").breaker == item["breaker"]
    again = said("recommend", "lab")
    assert "its numbers fit" in again and yaml.safe_load(again) is None
    assert json.dumps(item)


def test_recommend_says_when_there_is_too_little_to_say() -> None:
    assert yaml.safe_load(said("recommend")) is None
    ProviderFactory(slug="lab")
    assert yaml.safe_load(said("recommend", "lab", "--days", "1")) is None
    for days in ("0", "46", "x"):
        with pytest.raises(CommandError, match="from 1 to 45"):
            said("recommend", "--days", days)
