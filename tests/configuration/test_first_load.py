"""`manage.py load_catalogue` on an empty database."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command
from pytest_django import DjangoAssertNumQueries

from api.configuration import catalogue
from billing.models import Price
from billing.services import prices_in_force
from providers.models import Model, Operation, Provider
from providers.operations import registry
from tests.shipped import FILES

pytestmark = pytest.mark.django_db


def test_everything_shipped_arrives() -> None:
    out = io.StringIO()
    call_command("load_catalogue", stdout=out)
    assert f"catalogue: {len(FILES)} providers" in out.getvalue()
    assert "+ provider openai" in out.getvalue()
    assert set(Provider.objects.values_list("slug", flat=True)) == {file.slug for file in FILES}
    assert set(Operation.objects.values_list("name", flat=True)) == set(registry())
    assert not Provider.objects.exclude(source="builtin").exists()
    mini = Model.objects.get(provider__slug="openai", model_id="gpt-4o-mini")
    price = prices_in_force(mini.provider)[mini.model_id, ""]
    assert (price.input, price.output, price.source) == (150_000, 600_000, "builtin")
    free = prices_in_force(Provider.objects.get(slug="met-no"))["", ""]
    assert free.unit == 0 and not Price.objects.exclude(source="builtin").exists()


def test_what_arrives_first_is_written_together(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    """Row by row it took as long as all else that a first start does."""
    with django_assert_max_num_queries(300):
        catalogue.load(FILES)
    with django_assert_max_num_queries(30):
        assert not catalogue.load(FILES).changes
