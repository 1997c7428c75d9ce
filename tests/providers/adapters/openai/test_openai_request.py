"""A call in, the exact upstream request out; the client's own bytes wherever nothing changes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from providers.adapter import Unsupported
from providers.adapters.openai import ADAPTER
from providers.call import Call, Upstream, UpstreamRequest

# Not as orjson would write it: a body that was only forwarded keeps its blanks and its order.
BODY = b'{ "messages":[{"role":"user","content":"Hi"}], "model" : "gpt-x","zeta":1 }'


def asked(
    settings: dict[str, Any] | None = None, *, model: str = "gpt-x", **params: Any
) -> UpstreamRequest:
    upstream = Upstream("lab", "https://o.example/v1", model, "sk-1", settings or {})
    return ADAPTER.request(call(**params), upstream)


def call(**params: Any) -> Call:
    if not params:
        return Call("chat.completions", orjson.loads(BODY), BODY)
    whole = {"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}], **params}
    return Call("chat.completions", whole, orjson.dumps(whole))


def body_of(request: UpstreamRequest) -> dict[str, Any]:
    assert request.body is not None
    body: dict[str, Any] = orjson.loads(request.body)
    return body


def test_a_call_that_needs_no_change_goes_on_as_the_same_bytes() -> None:
    request = asked()
    assert request == UpstreamRequest(
        "POST",
        "https://o.example/v1/chat/completions",
        {"content-type": "application/json", "authorization": "Bearer sk-1"},
        BODY,
    )
    plain = call()
    assert (
        ADAPTER.request(plain, Upstream("lab", "https://o.example/v1", "gpt-x")).body is plain.body
    )


def test_only_the_model_changes_when_only_the_model_differs() -> None:
    assert body_of(asked(model="gpt-y")) == orjson.loads(BODY) | {"model": "gpt-y"}


def test_a_call_without_bytes_is_written() -> None:
    params = {"model": "gpt-x", "messages": []}
    upstream = Upstream("lab", "https://o.example/v1/", "gpt-x")
    request = ADAPTER.request(Call("chat.completions", params), upstream)
    assert body_of(request) == params
    assert request.url == "https://o.example/v1/chat/completions"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}),
    ],
)
def test_the_count_of_a_stream_is_always_asked_for(options: Any, expected: Any) -> None:
    assert body_of(asked(stream=True, stream_options=options))["stream_options"] == expected


def test_a_stream_that_asks_for_its_count_is_forwarded() -> None:
    streaming = call(stream=True, stream_options={"include_usage": True})
    upstream = Upstream("lab", "https://o.example/v1", "gpt-x", "sk-1")
    assert ADAPTER.request(streaming, upstream).body is streaming.body


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_where_stream_options_are_not_known_none_are_sent(options: Any) -> None:
    body = body_of(asked({"stream_usage": False}, stream=True, **options))
    assert "stream_options" not in body
    assert body["stream"] is True


def test_settings_say_how_azure_is_spoken_to() -> None:
    settings = {
        "auth": {"header": "API-Key", "prefix": ""},
        "headers": {"X-Team": "a"},
        "query": {"api-version": "2025-01-01", "q": "ä b"},
        "paths": {"chat.completions": "/deployments/{model}/chat/completions"},
    }
    request = asked(settings, model="my/model ?")
    assert request.headers == {"content-type": "application/json", "api-key": "sk-1", "x-team": "a"}
    assert request.url == (
        "https://o.example/v1/deployments/my%2Fmodel%20%3F/chat/completions"
        "?api-version=2025-01-01&q=%C3%A4+b"
    )


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("max_completion_tokens", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("max_tokens", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("max_tokens", {"max_tokens": 5}, {"max_tokens": 5}),
        ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 3}, {"max_tokens": 3}),
        ("a mistake", {"max_tokens": 5}, {"max_tokens": 5}),
        ("max_tokens", {"max_completion_tokens": None, "seed": 1}, {"max_completion_tokens": None}),
    ],
)
def test_the_output_limit_goes_by_the_services_name(
    name: str, params: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = body_of(asked({"max_tokens_parameter": name}, **params))
    limits = {k: v for k, v in body.items() if k.startswith("max_")}
    assert limits == expected


def test_a_refused_parameter_is_refused_and_never_dropped() -> None:
    settings = {"refused_parameters": ["seed", "logprobs"]}
    with pytest.raises(Unsupported) as refused:
        asked(settings, seed=0)
    assert refused.value.param == "seed"
    assert body_of(asked(settings, seed=None))["seed"] is None


def test_what_a_service_refuses_of_earlier_answers_is_not_sent_again() -> None:
    """An SDK's client sends an answer back with all that it had."""
    signed = {"extra_content": {"google": {"thought_signature": "s"}}}
    made = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "tool_calls": [made | signed], **signed}
    refused = {"role": "assistant", "content": None, "refusal": "I will not."}
    history = [
        {"role": "user", "content": "Hi"},
        answer | {"reasoning_content": "Hm.", "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        refused,
    ]
    names = ["extra_content", "reasoning_content", "refusal"]
    sent = body_of(asked({"unsent_of_answers": names}, messages=history))["messages"]
    assert sent[1] == {"role": "assistant", "content": None, "tool_calls": [made]}
    assert sent[3] == {"role": "assistant", "content": "I will not."}
    assert (sent[0], sent[2]) == (history[0], history[2])
    assert body_of(asked({}, messages=history))["messages"] == history
    plain = [{"role": "user", "content": "Hi"}]
    kept = call(messages=plain, model="gpt-x")
    upstream = Upstream("lab", "https://o.example", "gpt-x", settings={"unsent_of_answers": names})
    assert ADAPTER.request(kept, upstream).body is kept.body


def test_unknown_fields_pass_through() -> None:
    assert body_of(asked(model="gpt-y", top_k=3, vendor={"a": [1]}))["vendor"] == {"a": [1]}


def test_embeddings_have_their_own_path_and_other_operations_none() -> None:
    upstream = Upstream("lab", "https://o.example/v1", "e", "sk-1")
    request = ADAPTER.request(Call("embeddings", {"model": "e", "input": "x"}), upstream)
    assert request.url == "https://o.example/v1/embeddings"
    with pytest.raises(Unsupported):
        ADAPTER.request(Call("ai.rerank", {"model": "e"}), upstream)


def test_the_estimate_is_the_prompt_and_the_most_it_may_answer() -> None:
    estimate = ADAPTER.estimate(call(max_tokens=7), Upstream("lab", "https://o.example", "gpt-x"))
    assert (estimate.output_tokens, estimate.estimated) == (7, True)
