"""A provider's breaker and retries in the admin: checked, and told where they are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from providers import snapshot
from providers.models import Provider
from tests.admin.test_takeover import shown, where
from tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db


def saved(browser: Client, **fields: Any) -> Any:
    row = Provider.objects.filter(slug="lab").first() or ProviderFactory(slug="lab")
    texts = {name: json.dumps(value) for name, value in fields.items()}
    return browser.post(where(row), shown(browser, row) | texts)


def test_a_policy_is_saved_and_in_force(browser: Client) -> None:
    answer = saved(browser, breaker={"preset": "development"}, retry={"max_attempts": 4})
    assert answer.status_code == 302
    lab = snapshot.load().providers["lab"]
    assert (lab.breaker.target.consecutive_failures, lab.retry.max_attempts) == (3, 4)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"retry": {"max_attempts": 0}}, "max_attempts: Must be at least 1."),
        ({"retry": {"base_ms": 1000}}, "base_ms: Unknown. Leave it out."),
        ({"retry": 5}, "retry: Must be object."),
        ({"breaker": {"window": {"type": "time"}}}, "window: Say &quot;seconds&quot;"),
        ({"breaker": {"preset": "none"}}, "preset: Must be simple, development or production."),
    ],
    ids=str,
)
def test_a_fault_is_told_with_its_place(browser: Client, fields: Any, told: str) -> None:
    answer = saved(browser, **fields)
    assert answer.status_code == 200 and told in answer.content.decode()
    lab = Provider.objects.get(slug="lab")
    assert (lab.breaker, lab.retry) == ({}, {})
