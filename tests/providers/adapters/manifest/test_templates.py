"""Templates: what is filled in stays where it is put, and can be read back."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.problems import InvalidRequest
from providers.adapter import Unsupported
from providers.adapters.manifest.request import Auth, RequestTemplate, refuse_unsaid
from providers.adapters.manifest.request import build as build_request
from providers.adapters.manifest.templates import Template, TemplateError, as_text
from providers.adapters.manifest.transforms import compile_steps
from providers.call import Call, Upstream, UpstreamRequest
from providers.secret_form import written

PATH = RequestTemplate("GET", Template.parse("/v8/{q}/chart"), (("k", Template.parse("x{q}")),))


def build(template: RequestTemplate, auth: Auth, call: Call, upstream: Upstream) -> UpstreamRequest:
    refuse_unsaid(template.params, template.only, call.params, upstream.provider)
    return build_request(template, auth, call.params, upstream)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(TEXT)
@settings(max_examples=200, deadline=None)
def test_no_value_leaves_its_place_in_the_url(value: str) -> None:
    try:
        url = PATH.url({"q": value})
    except InvalidRequest:
        assert not value.strip(".")
        return
    parts = urlsplit("https://host.example" + url)
    assert parts.netloc == "host.example"
    assert parts.fragment == ""
    segments = parts.path.split("/")
    assert [unquote(segment) for segment in segments] == ["", "v8", value, "chart"]
    assert parse_qsl(parts.query, keep_blank_values=True) == [("k", "x" + value)]


@given(TEXT)
@settings(max_examples=100, deadline=None)
def test_a_request_can_be_read_back(value: str) -> None:
    assume(value.strip("."))
    assert PATH.recover("GET", PATH.url({"q": value})) == {"q": value}


@pytest.mark.parametrize("value", ["", ".", "..", "..."])
def test_dots_cannot_walk_the_path(value: str) -> None:
    with pytest.raises(InvalidRequest):
        PATH.url({"q": value})


def test_defaults_and_absent_parameters() -> None:
    template = RequestTemplate(
        "GET",
        Template.parse("/{date|latest}"),
        (("base", Template.parse("{base}")), ("n", Template.parse("{limit|10}"))),
    )
    assert template.url({}) == "/latest?n=10"
    assert (
        template.url({"date": "2026-01-15", "base": "EUR", "limit": 3})
        == "/2026-01-15?base=EUR&n=3"
    )
    assert template.recover("GET", "/latest?n=10&apikey=x") == {}
    assert template.recover("GET", "/2026-01-15?base=EUR&n=3") == {
        "date": "2026-01-15",
        "base": "EUR",
        "limit": "3",
    }
    assert template.recover("POST", "/latest?n=10") is None


@pytest.mark.parametrize(
    "source", ["{", "}", "{a", "a}b", "{A}", "{a.b}", "{{a}}", "{a|b|{c}}", "{}"]
)
def test_what_is_no_template_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        Template.parse(source)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18.0, "18"),
        (1e-7, "0.0000001"),
        (-0.0, "0"),
        (1e16, "10000000000000000"),
        (True, "true"),
        (7, "7"),
    ],
)
def test_numbers_are_written_plainly(value: Any, text: str) -> None:
    assert as_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=100, deadline=None)
def test_written_numbers_keep_their_value(value: float) -> None:
    assert float(as_text(value)) == value
    assert "e" not in as_text(value).lower()


def test_a_parameter_that_cannot_be_told_is_never_dropped() -> None:
    call = Call("x", {"q": "AAPL", "exchange": "XNAS"})
    with pytest.raises(Unsupported) as caught:
        build(PATH, Auth(), call, Upstream("p", "https://p.example"))
    assert caught.value.param == "exchange"


@pytest.mark.parametrize("steering", ["provider", "fallback", "include", "limit"])
def test_what_steers_the_gateway_is_not_the_providers(steering: str) -> None:
    build(PATH, Auth(), Call("x", {"q": "A", steering: "1"}), Upstream("p", "https://p.example"))


def test_a_cursor_is_refused_where_there_are_no_pages() -> None:
    with pytest.raises(Unsupported):
        build(
            PATH, Auth(), Call("x", {"q": "A", "cursor": "c"}), Upstream("p", "https://p.example")
        )


@pytest.mark.parametrize(
    ("auth", "header", "query"),
    [
        (Auth(), {}, ""),
        (Auth("bearer"), {"authorization": "Bearer k&y"}, ""),
        (Auth("header", "X-Key", "Token "), {"x-key": "Token k&y"}, ""),
        (Auth("basic"), {"authorization": "Basic ayZ5Og=="}, ""),
        (Auth("query", "api key"), {}, "&api%20key=k%26y"),
    ],
)
def test_the_secret_goes_where_it_is_asked_for(
    auth: Auth, header: dict[str, str], query: str
) -> None:
    request = build(
        PATH, auth, Call("x", {"q": "A"}), Upstream("p", "https://p.example/", secret="k&y")
    )
    assert request.headers == {"accept": "application/json", **header}
    assert request.url == "https://p.example/v8/A/chart?k=xA" + query


APP = {"app_id": "i&d", "app_key": "k y"}


@pytest.mark.parametrize(
    ("auth", "parts", "header", "query"),
    [
        (Auth("query", names={"app_id": "id", "app_key": "key"}), APP, {}, "&id=i%26d&key=k%20y"),
        (
            Auth("header", names={"app_id": "X-Id", "app_key": "X-Key"}),
            APP,
            {"x-id": "i&d", "x-key": "k y"},
            "",
        ),
        (Auth("basic"), {"user": "u", "password": "p:q"}, {"authorization": "Basic dTpwOnE="}, ""),
    ],
)
def test_each_part_of_a_secret_goes_where_it_is_asked_for(
    auth: Auth, parts: dict[str, str], header: dict[str, str], query: str
) -> None:
    upstream = Upstream("p", "https://p.example/", secret=written(parts), parts=parts)
    request = build(PATH, auth, Call("x", {"q": "A"}), upstream)
    assert request.headers == {"accept": "application/json", **header}
    assert request.url == "https://p.example/v8/A/chart?k=xA" + query
    assert not any(part in repr(upstream) for part in parts.values() if len(part) > 1)


def test_without_a_secret_nothing_is_said() -> None:
    for auth in (Auth("bearer"), Auth("query", "k"), Auth("basic"), Auth("header", "x")):
        request = build(PATH, auth, Call("x", {"q": "A"}), Upstream("p", "https://p.example"))
        assert request.headers == {"accept": "application/json"}
        assert request.url.endswith("?k=xA")


def test_a_parameter_is_prepared_before_it_is_sent() -> None:
    template = RequestTemplate(
        "GET",
        Template.parse("/x"),
        (("lat", Template.parse("{lat}")),),
        prepare={"lat": compile_steps({"round": 4}, {})},
    )
    assert template.url({"lat": 59.123456}) == "/x?lat=59.1235"
    assert template.url({}) == "/x"
    with pytest.raises(InvalidRequest, match="cannot take"):
        template.url({"lat": "north"})


def test_a_path_needs_its_parameters() -> None:
    with pytest.raises(InvalidRequest, match="q"):
        PATH.url({})


def test_a_request_of_another_path_or_query_is_not_read() -> None:
    template = RequestTemplate(
        "GET", Template.parse("/q"), (("f", Template.parse("QUOTE")), ("s", Template.parse("{q}-")))
    )
    assert template.recover("GET", "/q?f=QUOTE&s=a-") == {"q": "a"}
    for url in ("/p?f=QUOTE&s=a-", "/q?f=RATE&s=a-", "/q?s=a-", "/q?f=QUOTE&s=a"):
        assert template.recover("GET", url) is None
