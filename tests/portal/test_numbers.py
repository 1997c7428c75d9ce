"""Figures as a tenant's people write them; texts, files and answers of the API stay as they are."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client

from api.configuration.applying import apply
from api.configuration.document import read
from api.configuration.exporting import export
from portal.numbers import by_the_customs_of, number
from portal.templatetags.humane import count, money, ms, share, some
from tenants.locales import locales, validate_locale
from tenants.models import Tenant
from tests.api.test_dashboard import called
from tests.factories import PriceFactory, ProjectFactory, TenantFactory


@pytest.mark.parametrize("locale", locales())
def test_every_locale_writes_every_digit(locale: str) -> None:
    validate_locale(locale)
    with by_the_customs_of(locale):
        written = [number(1234567.5, 1), count(1234567), money(1_234_567_000_000), ms(12345)]
    digits = ["".join(c for c in text if unicodedata.category(c) == "Nd") for text in written]
    assert digits == ["12345675", "1234567", "123456700", "12345"]


def test_as_each_of_them_writes() -> None:
    for locale, told in {
        "en": ("1,234,567", "$1,234.57", "12.3\xa0%"),
        "de": ("1.234.567", "$1.234,57", "12,3\xa0%"),
        "sv": ("1\xa0234\xa0567", "$1\xa0234,57", "12,3\xa0%"),
    }.items():
        with by_the_customs_of(locale):
            assert (count(1234567), money(1_234_567_000), share(0.123)) == told
    assert count(1234567) == "1,234,567"  # as before


@pytest.mark.parametrize("name", ["", "xx", "EN", "../en", "en\0", "de_DE", "en" * 100])
def test_what_is_no_locale_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        validate_locale(name)


@pytest.mark.django_db
def test_a_page_is_by_the_customs_of_its_tenant(
    tenant: Tenant, owner: Client, as_role: Any
) -> None:
    other = ProjectFactory(tenant__slug="other").tenant
    for each in (tenant, other):
        called(each, 1, charge=1_234_560_000, input_tokens=9_876)
    Tenant.objects.filter(pk=tenant.pk).update(locale="de")
    shown = owner.get("/app/acme/usage/").content.decode()
    assert "$1.234,56" in shown and "9.876" in shown and "Sign out" in shown
    assert "$1,234.56" in as_role(of=other, role="owner").get("/app/other/usage/").content.decode()
    page = owner.get("/app/acme/usage/", {"by": "model"})
    assert json.loads(page.context["chart"])["locale"] == "de"
    file = owner.get("/app/acme/usage/", {"format": "csv"}).content.decode()
    assert "1234.56" in file


@pytest.mark.django_db
def test_prices_too(tenant: Tenant, owner: Client) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(locale="de")
    PriceFactory(input=1_250_000, unit=1_234_567_000)
    shown = owner.get("/app/acme/limits/").content.decode()
    assert "$1,25<" in shown and "$1,234567<" in shown


@pytest.mark.django_db
def test_a_file_says_it(tenant: Tenant) -> None:
    apply(read("tenants: [{slug: acme, locale: pt-br}]", {}))
    tenant.refresh_from_db()
    assert tenant.locale == "pt-br" and "locale: pt-br" in export()


@pytest.mark.django_db
def test_whoever_knows_no_such_column_goes_on(tenant: Tenant) -> None:
    """A gateway of the version before writes a tenant while the new column is there already."""
    fields = [field for field in Tenant._meta.concrete_fields if field.name not in {"id", "locale"}]
    row = TenantFactory.build(plan=tenant.plan)
    cells = [field.get_db_prep_save(field.pre_save(row, True), connection) for field in fields]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    places = ", ".join(["%s"] * len(fields))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO tenants_tenant ({columns}) VALUES ({places})", cells)
    assert Tenant.objects.get(slug=row.slug).locale == "en"


def test_of_many_words_a_cell_shows_a_few() -> None:
    assert (some([]), some(["a"]), some(["a", "b", "c"])) == ("", "a", "a b c")
    assert some(list("abcde")) == "a b c and 2 more"
