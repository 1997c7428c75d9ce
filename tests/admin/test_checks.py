"""A route's checks in the admin: what could hang or cannot be read is refused, with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from providers import snapshot
from providers.answer_checks import Checks
from providers.models import Route
from tests.factories import TargetFactory

pytestmark = pytest.mark.django_db
NO_TARGETS = {"targets-TOTAL_FORMS": "0", "targets-INITIAL_FORMS": "0"}


def write(browser: Client, route: Route, checks: Any) -> Any:
    form = {"operation": route.operation, "alias": route.alias, "strategy": "priority"}
    form |= {"rescue": "none", "fan_out": 5, "timeouts": "{}", "enabled": "on", **NO_TARGETS}
    where = reverse("admin:providers_route_change", args=[route.pk])
    return browser.post(where, {**form, "checks": json.dumps(checks)})


def test_checks_are_in_force_once_written(browser: Client) -> None:
    route = TargetFactory().route
    assert write(browser, route, {"not_empty": True, "max_characters": 9}).status_code == 302
    spec = snapshot.load().routes[route.operation, route.alias]
    assert spec.checks == Checks(not_empty=True, max_characters=9)
    assert write(browser, route, {}).status_code == 302
    assert snapshot.load().routes[route.operation, route.alias].checks is None


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ({"forbidden": ["fine", "(?=a)b"]}, "forbidden/1: This is no regular expression"),
        ({"schema": {"$ref": "#"}}, "schema: References are not followed"),
        ({"no_such": True}, "no_such"),
        ([1], "checks: "),
    ],
)
def test_what_is_wrong_is_named_by_its_place(browser: Client, checks: Any, words: str) -> None:
    route = TargetFactory().route
    page = write(browser, route, checks)
    assert page.status_code == 200
    assert words in page.content.decode().replace("&#x27;", "'")
    route.refresh_from_db()
    assert route.checks == {}


def test_no_answer_goes_unchecked_because_its_checks_cannot_be_read() -> None:
    route = TargetFactory().route
    Route.objects.filter(pk=route.pk).update(checks={"forbidden": ["("]})
    assert (route.operation, route.alias) not in snapshot.load().routes
