"""`manage.py provider`: what it writes holds, what it says leads to the line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from api.configuration.activating import activate
from providers import definitions
from providers.catalogue.documents import FOLDER
from providers.definition_models import Check, Definition
from tests.providers.definitions import keyed, rates, replying

pytestmark = pytest.mark.django_db


def said(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("provider", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("template", ["rest", "ai"])
def test_what_new_writes_holds(template: str, tmp_path: Path) -> None:
    told = said("new", "my-own", "--template", template, "--folder", tmp_path)
    file = tmp_path / "my-own.yaml"
    assert f"wrote {file}" in told
    assert "#" in file.read_text(), "it explains itself"
    assert said("validate", file) == "1 checked, no faults\n"
    with pytest.raises(CommandError, match="is there already"):
        said("new", "my-own", "--folder", tmp_path)


@pytest.mark.parametrize("slug", ["../x", "A", "", "-x", "a/b", "x" * 64])
def test_new_writes_nowhere_else(slug: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="A slug has"):
        said("new", f" {slug}", "--folder", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_validate_names_file_line_and_place(tmp_path: Path) -> None:
    said("new", "my-own", "--folder", tmp_path)
    file = tmp_path / "my-own.yaml"
    good = file.read_text()
    file.write_text(good.replace("path: rates", "path: 'rates['").replace("as_of", "as_off"))
    line = good[: good.index("path: rates")].count("\n") + 1
    with pytest.raises(CommandError) as caught:
        said("validate", file)
    assert f"{file}:{line}: operations.finance.fx_rate.map.rate.path: no JMESPath" in str(
        caught.value
    )
    assert f"{file}:{line + 1}: " in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_validate_looks_at_the_examples(text: str, tmp_path: Path) -> None:
    said("new", "my-own", "--folder", tmp_path)
    (tmp_path / "examples/my-own/latest.json").write_text(text)
    with pytest.raises(CommandError, match="examples/my-own"):
        said("validate", tmp_path / "my-own.yaml")


def test_validate_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"x\.yaml:1: Cannot be read"):
        said("validate", tmp_path / "x.yaml")


def test_all_that_ships_is_valid() -> None:
    shipped = sorted(FOLDER.glob("*.yaml"))
    assert said("validate", *shipped) == f"{len(shipped)} checked, no faults\n"


def test_test_needs_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: Any) -> Any:
        raise OperationalError("no such table: providers_definition")

    monkeypatch.setattr(Definition.objects, "filter", none)
    assert "no faults" in said("test", "frankfurter")


def test_test_shows_a_table_and_what_fails() -> None:
    told = said("test", "frankfurter")
    assert [line.split() for line in told.splitlines()][1] == [
        "frankfurter", "finance.fx_rate", "latest", "ok"
    ]  # fmt: skip
    assert told.endswith("no faults\n")
    with pytest.raises(CommandError, match="There is no provider nobody"):
        said("test", "nobody")


def test_test_runs_staffs_own_too() -> None:
    document, examples = rates()
    row = definitions.create(slug="my-rates", document=document, examples=examples, by="ann")
    activate(definition=row, by="ann")
    assert "my-rates" in said("test", "my-rates")
    wrong = document.replace("path: rates", "path: wrong")
    Definition.objects.filter(pk=row.pk).update(document=wrong)
    with pytest.raises(CommandError, match="2 faults"):
        said("test", "my-rates")


def test_try_in_the_sandbox_takes_what_ships() -> None:
    told = said("try", "frankfurter", "finance.fx_rate", "base=EUR", "quote=SEK", "--sandbox")
    assert "GET https://api.frankfurter.dev/v1/latest?base=EUR&symbols=SEK" in told
    assert '"rate": "11.0235"' in told
    assert not Check.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody", "finance.quote"], "There is no provider nobody"),
        (["../frankfurter", "finance.quote"], "There is no provider"),
        (["frankfurter", "finance.none"], "There is no operation"),
        (["frankfurter", "finance.quote", "symbol=A"], "serves finance.fx_rate"),
        (["frankfurter", "finance.fx_rate", "base"], "base: write NAME=VALUE"),
        (["frankfurter", "finance.fx_rate", "base=EUR"], "quote: This is required"),
        (["finnhub", "finance.quote", "symbol=A"], "needs a credential"),
    ],
)
def test_try_says_what_is_missing(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        said("try", *arguments)


def test_try_is_one_real_call_with_the_secret_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_RATES_API_KEY", "from-the-environment")
    with replying() as upstream:
        document, examples = rates(base_url=upstream.url)
        from providers.models import Provider

        Provider.objects.create(
            slug="my-rates", adapter="manifest", base_url=upstream.url, allow_private_network=True
        )
        row = definitions.create(
            slug="my-rates", document=keyed(document), examples=examples, by="ann"
        )
        activate(definition=row, by="ann")
        told = said("try", "my-rates", "finance.fx_rate", "base=EUR", "quote=USD")
        (asked,) = upstream.asked
    assert "apikey=from-the-environment" in asked[0]
    assert "from-the-environment" not in told and '"rate": "1.0823"' in told
    assert Check.objects.get().by == "manage.py provider"
