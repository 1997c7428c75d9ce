"""The official Anthropic client must not notice that it talks to the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    import anthropic

ASK = [{"role": "user", "content": "Hello dear sandbox"}]
WEATHER = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    },
}


def test_message(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(model="claude-x", max_tokens=50, messages=ASK)
    assert answer.content[0].text == "You said: Hello dear sandbox"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
    assert answer.usage.cache_read_input_tokens == answer.usage.cache_creation_input_tokens == 0


def test_stream(anthropic_client: anthropic.Anthropic) -> None:
    with anthropic_client.messages.stream(
        model="claude-x", max_tokens=50, messages=ASK, system="Be kind"
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "You said: Hello dear sandbox"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 5)
    assert final.stop_reason == "end_turn"


def test_a_streamed_tool_call_is_the_whole_one(anthropic_client: anthropic.Anthropic) -> None:
    ask = {
        "model": "claude-x",
        "max_tokens": 50,
        "messages": ASK,
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "get_weather"},
    }
    whole = anthropic_client.messages.create(**ask)
    with anthropic_client.messages.stream(**ask) as stream:
        streamed = stream.get_final_message()
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert whole.content[0].input == streamed.content[0].input == {"city": "sample", "days": 2}
    assert whole.content[0].id == streamed.content[0].id
    assert whole.usage.output_tokens == streamed.usage.output_tokens


def test_a_tool_result_is_answered_in_text(anthropic_client: anthropic.Anthropic) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny, 21 degrees"}
    answer = anthropic_client.messages.create(
        model="claude-x",
        max_tokens=50,
        tools=[WEATHER],
        messages=[
            {"role": "user", "content": "get_weather in Oslo"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ],
    )
    assert answer.content[0].text == "The tool answered: Sunny, 21 degrees"


def test_limits_and_stop_sequences(anthropic_client: anthropic.Anthropic) -> None:
    cut = anthropic_client.messages.create(model="claude-x", max_tokens=2, messages=ASK)
    assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "You said:")
    stopped = anthropic_client.messages.create(
        model="claude-x", max_tokens=50, messages=ASK, stop_sequences=["dear"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "dear")


def test_max_tokens_is_required(http: httpx2.Client) -> None:
    answer = http.post("/anthropic/v1/messages", json={"model": "claude-x", "messages": ASK})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"] == {
        "type": "invalid_request_error",
        "message": "max_tokens: Field required",
    }


def test_models_are_told_in_the_dialect_of_who_asks(
    anthropic_client: anthropic.Anthropic, http: httpx2.Client
) -> None:
    assert [model.type for model in anthropic_client.models.list()] == ["model", "model"]
    del http.headers["x-api-key"]
    assert http.get("/openai/v1/models").json()["object"] == "list"


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("status=401", "AuthenticationError"),
        ("status=429;retry_after=3", "RateLimitError"),
        ("status=500", "InternalServerError"),
        ("status=529", "InternalServerError"),
    ],
)
def test_errors_come_out_as_the_clients_own(
    anthropic_client: anthropic.Anthropic, spec: str, kind: str
) -> None:
    import anthropic

    with pytest.raises(getattr(anthropic, kind)):
        anthropic_client.messages.create(
            model="claude-x",
            max_tokens=5,
            messages=ASK,
            extra_headers={"x-sandbox-fault": spec},
        )


def test_a_bad_or_missing_key(http: httpx2.Client) -> None:
    body = {"model": "claude-x", "max_tokens": 5, "messages": ASK}
    bad = http.post("/anthropic/v1/messages", json=body, headers={"x-api-key": "sk-bad-1"})
    assert (bad.status_code, bad.json()["error"]["type"]) == (401, "authentication_error")
    del http.headers["x-api-key"], http.headers["authorization"]
    assert http.post("/anthropic/v1/messages", json=body).status_code == 401
