"""The operation registry: what it holds, and that its validators keep their word on hostile input."""

import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta

from lib.problems import InvalidRequest
from providers.operations import (
    OF_MODELS,
    RESERVED,
    Kind,
    Operation,
    parse_query,
    registry,
    validate,
)

CHAT = registry()["chat.completions"]
EMBEDDINGS = registry()["embeddings"]
WEATHER = registry()["weather.current"]
FX = registry()["finance.fx_rate"]
SMALL = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "temperature": 0.3,
    "stream": True,
    "stream_options": {"include_usage": True},
}


def refusal(operation: Operation, params: Mapping[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        validate(operation, params)
    return caught.value


def test_operations_of_models_are_all_that_read_no_data() -> None:
    told = {name for name, each in registry().items() if each.kind is not Kind.DATA}
    assert told == OF_MODELS


def pointers(problem: InvalidRequest) -> list[str]:
    return [error["pointer"] for error in problem.extra["errors"]]


@pytest.mark.parametrize("operation", registry().values(), ids=str)
def test_every_operation_is_whole(operation: Operation) -> None:
    assert operation.summary.endswith(".")
    for schema in (operation.request_schema, operation.response_schema):
        meta.validate(schema)
        orjson.dumps(schema)
    assert operation.path.startswith("/api/v1/")
    assert set(operation.request_schema["required"]) <= set(operation.parameters)
    if operation.as_of:
        assert operation.as_of in operation.response_schema["required"]


def test_data_operations_take_the_reserved_parameters_and_nothing_unknown() -> None:
    for operation in registry().values():
        if operation.kind is Kind.DATA:
            assert set(operation.request_schema["properties"]) >= RESERVED
            assert operation.request_schema["additionalProperties"] is False
            assert operation.idempotent
            assert operation.cache["ttl"] > 0
            assert operation.path == "/api/v1/" + operation.name.replace(".", "/")


def test_paths_of_the_ai_operations() -> None:
    assert (CHAT.method, CHAT.path) == ("POST", "/api/v1/chat/completions")
    assert (EMBEDDINGS.method, EMBEDDINGS.path) == ("POST", "/api/v1/embeddings")


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        registry()["x"] = CHAT  # type: ignore[index]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hi", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}],
        },
        {"role": "assistant", "content": None},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
        {"role": "developer", "content": "rules"},
    ],
)
def test_good_messages_pass(message: dict[str, Any]) -> None:
    validate(CHAT, {"model": "m", "messages": [message], "unknown_field": {"is": "kept"}})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"model": ""}, "/model"),
        ({"model": 4}, "/model"),
        ({"messages": []}, "/messages"),
        ({"messages": "hi"}, "/messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user"}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": 3}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "/messages/0/content/0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "/messages/0/tool_call_id"),
        ({"stream": "true"}, "/stream"),
        ({"max_tokens": 0}, "/max_tokens"),
        ({"max_tokens": True}, "/max_tokens"),
        ({"max_tokens": 1.5}, "/max_tokens"),
        ({"temperature": 2.1}, "/temperature"),
        ({"temperature": False}, "/temperature"),
        ({"temperature": float("nan")}, "/temperature"),
        ({"n": 2}, "/n"),
        ({"tools": [{"type": "function"}]}, "/tools/0/function"),
        ({"tools": {}}, "/tools"),
        ({"stream_options": True}, "/stream_options"),
        ({"response_format": {}}, "/response_format/type"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], pointer: str) -> None:
    problem = refusal(CHAT, {**SMALL, **change})
    assert pointers(problem) == [pointer]
    assert problem.status == 400
    assert problem.param == pointer[1:].replace("/", ".")


def test_all_faults_are_told_at_once_but_at_most_twenty() -> None:
    problem = refusal(CHAT, {"temperature": 9, "n": 7})
    assert set(pointers(problem)) == {"/model", "/messages", "/temperature", "/n"}
    many = refusal(CHAT, {"model": "m", "messages": [{"role": "x", "content": 1}] * 500})
    assert len(many.extra["errors"]) == 20


def test_no_value_is_quoted_in_a_problem() -> None:
    secret = "s3cret-" * 20
    problem = refusal(CHAT, {**SMALL, "temperature": secret, "stream": [secret], "n": secret})
    assert "s3cret" not in orjson.dumps(problem.as_openai("r")).decode()


def test_deep_and_wide_bodies_are_judged_without_an_accident() -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    validate(CHAT, {**SMALL, "metadata": deep, "tools": [{"type": "x", "deep": deep}]})
    assert pointers(refusal(CHAT, {**SMALL, "messages": deep})) == [""]


def test_a_small_body_is_validated_in_microseconds() -> None:
    def cost() -> float:
        begin = time.perf_counter()
        for _ in range(2000):
            validate(CHAT, SMALL)
        return (time.perf_counter() - begin) / 2000

    assert min(cost() for _ in range(5)) < 10e-6


@pytest.mark.parametrize("good", ["text", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_embedding_inputs(good: Any) -> None:
    validate(EMBEDDINGS, {"model": "m", "input": good})


@pytest.mark.parametrize(
    "bad", ["", [], [""], [[]], [1.5], None, {}, [True], [["a"]], ["a"] * 2049]
)
def test_wrong_embedding_inputs(bad: Any) -> None:
    refusal(EMBEDDINGS, {"model": "m", "input": bad})


def test_query_values_get_their_types() -> None:
    pairs = [("lat", "59.3"), ("lon", "-1e1"), ("limit", "5"), ("fallback", "0")]
    params = parse_query(WEATHER, pairs)
    assert params == {"lat": 59.3, "lon": -10.0, "limit": 5, "fallback": False}
    validate(WEATHER, params)


@pytest.mark.parametrize("pair", [("limit", "5.0"), ("limit", "many"), ("fallback", "no")])
def test_text_of_another_type_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_query(WEATHER, [pair])
    assert caught.value.param == pair[0]


def test_codes_are_upper_cased() -> None:
    assert parse_query(FX, [("base", "eur"), ("quote", "Sek")]) == {"base": "EUR", "quote": "SEK"}


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "inf", "-Infinity", "1e999", "", " 1", "1_0", "0x1", "١", "1" * 40, "--1"],
)
def test_text_that_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_query(WEATHER, [("lat", text), ("lon", "1")])
    assert caught.value.param == "lat"


def test_doubles_are_refused_even_when_equal() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        parse_query(WEATHER, [("lat", "1"), ("lat", "1")])


def test_unknown_parameters_are_refused_by_name() -> None:
    problem = refusal(WEATHER, parse_query(WEATHER, [("lat", "1"), ("lon", "1"), ("x/y~", "1")]))
    assert pointers(problem) == ["/x~1y~0"]


def test_lists_with_an_end_are_told_whole_and_others_in_pages() -> None:
    days = {"symbol": "EXMP", "from": "2020-01-01", "to": "2026-11-20"}
    history, news = registry()["finance.history"], registry()["news.search"]
    validate(history, days | {"limit": 2500})
    assert refusal(history, days | {"limit": 5001}).detail == "limit: Must be at most 5000."
    assert refusal(news, {"q": "x", "limit": 101}).detail == "limit: Must be at most 100."
    assert (history.usual_items, news.usual_items) == (5000, 10)
    assert history.request_schema["properties"]["limit"]["default"] == 5000


@pytest.mark.parametrize("address", ["192.168.1.1", "10.0.0.1", "224.0.0.1"])
def test_an_address_of_nobody_is_refused_in_words(address: str) -> None:
    refused = refusal(registry()["geo.ip_lookup"], {"ip": address})
    assert refused.detail == "ip: Must be a public address."


@pytest.mark.parametrize("name", ["base", "\udcff"])
def test_a_lone_surrogate_ends_in_a_problem_that_can_be_sent(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validate(FX, parse_query(FX, [(name, "\ud800"), ("\udcff\udcfe", "1")]))
    orjson.dumps(caught.value.as_openai("r"))


@pytest.mark.parametrize("q", ['a" OR openfda', "a\\", "a\nb", "{q}", "", "..", '""'])
def test_a_drug_query_cannot_break_out_of_a_search_phrase(q: str) -> None:
    refusal(registry()["medical.drug_label"], {"q": q})


@given(
    st.lists(
        st.tuples(st.sampled_from(["lat", "lon", "limit", "q", "include"]), st.text()), max_size=6
    )
)
@settings(max_examples=150, deadline=None)
def test_any_query_gives_valid_parameters_or_a_problem(pairs: list[tuple[str, str]]) -> None:
    try:
        params = parse_query(WEATHER, pairs)
        validate(WEATHER, params)
    except InvalidRequest as problem:
        orjson.dumps(problem.as_openai("r"))
        assert 1 <= len(problem.extra["errors"]) <= 20
    else:
        assert -90 <= params["lat"] <= 90


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(list(CHAT.request_schema["properties"])), _JSON, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_chat_body_is_valid_or_a_problem(body: dict[str, Any]) -> None:
    try:
        validate(CHAT, body)
    except InvalidRequest as problem:
        orjson.dumps(problem.as_problem("r", __import__("datetime").datetime.now().astimezone()))
    else:
        assert Draft202012Validator(CHAT.request_schema).is_valid(body)
