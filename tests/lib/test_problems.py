from __future__ import annotations

import datetime as dt
import inspect

import pytest

from lib import problems
from lib.problems import TITLES, Problem, QuotaExceeded, Unauthenticated, UpstreamRejected

NOW = dt.datetime(2026, 5, 6, 7, 8, 9, tzinfo=dt.timezone(dt.timedelta(hours=2)))
KINDS = [Problem, *Problem.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_renders_both_ways(kind: type[Problem]) -> None:
    problem = kind()
    body = problem.as_problem("req", NOW)
    assert body["status"] == problem.status >= 400
    assert body["type"] == f"/docs/errors#{problem.code}"
    assert body["title"] and body["detail"] and body["request_id"] == "req"
    assert body["timestamp"] == "2026-05-06T05:08:09Z"
    error = problem.as_openai("req")["error"]
    assert {"message", "type", "param", "code", "request_id"} <= set(error)
    assert error["code"] == body["code"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_drawn_in_the_tree(kind: type[Problem]) -> None:
    assert kind.__name__ in (problems.__doc__ or "")
    assert kind.code in (problems.__doc__ or "")


def test_every_code_of_the_tree_has_a_title() -> None:
    codes = {kind.code for kind in KINDS}
    assert codes <= set(TITLES)
    assert all(title and not title.endswith(".") for title in TITLES.values())


def test_retry_after_is_told_in_the_header_and_no_other_instance_gets_it() -> None:
    problem = QuotaExceeded(retry_after=0, status=402, scope="tenant")
    assert problem.headers == {"Retry-After": "0"} and problem.status == 402
    assert problem.as_problem("r", NOW)["scope"] == "tenant"
    assert QuotaExceeded().headers == {} and QuotaExceeded().status == 429


def test_a_401_always_challenges() -> None:
    assert Unauthenticated(code="key_revoked").headers["WWW-Authenticate"] == "Bearer"
    assert Unauthenticated(retry_after=3).headers["Retry-After"] == "3"


def test_whose_fault_an_upstreams_refusal_is() -> None:
    assert UpstreamRejected(status=400).as_openai("r")["error"]["type"] == "invalid_request_error"
    assert UpstreamRejected().as_openai("r")["error"]["type"] == "api_error"


def test_the_module_knows_no_framework() -> None:
    source = inspect.getsource(problems)
    assert "django" not in source.partition('"""')[2].partition('"""')[2]
