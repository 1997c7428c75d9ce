"""What models cost before prices had versions is not lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE = [("providers", "0001_initial"), ("billing", "0001_prices")]
AFTER = [("providers", "0002_prices_are_versions"), ("billing", "0002_first_versions")]


def migrate(targets: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(targets)
    return executor.loader.project_state(targets).apps


@pytest.fixture
def before(transactional_db: None) -> Iterator[Any]:
    yield migrate(BEFORE)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_prices_become_first_versions(before: Any) -> None:
    Provider, Model = (
        before.get_model("providers", "Provider"),
        before.get_model("providers", "Model"),
    )
    lab = Provider.objects.create(slug="lab", adapter="openai", base_url="https://lab.example")
    Provider.objects.create(slug="rates", adapter="manifest", base_url="https://rates.example")
    for name, prices in {
        "all": {"input_price": 5, "output_price": 7, "cached_input_price": 1},
        "free": {"input_price": 0, "output_price": 0, "source": "builtin"},
        "unknown": {},
    }.items():
        Model.objects.create(provider=lab, model_id=name, **prices)
    Price = migrate(AFTER).get_model("billing", "Price")
    rows = Price.objects.order_by("pk").values_list(
        "provider__slug", "model_id", "input", "output", "cached_input", "unit", "source"
    )
    assert list(rows) == [
        ("lab", "all", 5, 7, 1, None, "operator"),
        ("lab", "free", 0, 0, None, None, "builtin"),
        ("rates", "", None, None, None, 0, "operator"),
    ]
    assert all(
        row.effective_from == dt.datetime(1970, 1, 1, tzinfo=dt.UTC) for row in Price.objects.all()
    )
