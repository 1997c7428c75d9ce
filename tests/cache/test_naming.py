"""Names of tags: nobody's tag is another's, and what is no name is refused."""

from __future__ import annotations

import pytest

from cache import naming
from cache.keys import Place
from lib.problems import InvalidRequest

PLACE = Place(7, "live", "finance.quote", route="quotes")


def test_what_an_answer_depends_on() -> None:
    assert naming.of_call(PLACE) == ["operation:finance.quote", "route:quotes", "tenant:7"]
    public = PLACE._replace(tenant_id=None)
    assert naming.of_call(public) == ["operation:finance.quote", "route:quotes"]
    assert naming.of_answer("lab", "gpt-x") == ["provider:lab", "model:lab/gpt-x"]
    assert naming.of_answer("finnhub", "") == ["provider:finnhub"]


def test_fields_of_a_request_are_tags_unless_they_are_long_or_named_as_ours() -> None:
    params = {"symbol": "AAPL", "lat": 59.3, "n": 3, "live": True, "q": "x" * 65, "empty": ""}
    assert naming.of_fields(params) == ["lat:59.3", "n:3", "symbol:AAPL"]
    assert naming.of_fields({"tenant": "7", "provider": "x", "client": "7:a", "limit": 5}) == []
    assert len(naming.of_fields({f"f{number}": 1 for number in range(50)})) == 8


def test_a_clients_names_are_its_tenants_own() -> None:
    names = naming.parse_names(" nightly-report, a/b:c.d ")
    assert naming.of_client(7, names) == ["client:7:nightly-report", "client:7:a/b:c.d"]
    assert not {*naming.of_client(7, ["1:a", "a"])} & {*naming.of_client(71, ["a"])}
    assert len(naming.parse_names(",".join(["a"] * 16))) == 16


@pytest.mark.parametrize(
    "header", ["", ",", "a,", "a b", "ä", ":a", "a" * 65, ",".join(["a"] * 17), "a\n", "a;b", "*"]
)
def test_what_is_no_name_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.parse_names(header)
    assert refused.value.param == "X-Patchbay-Cache-Tags"
