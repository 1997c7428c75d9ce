"""The sandbox against our own adapters: every dialect must tell the same story, and be believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest

from providers.call import Call, Outcome, Upstream, Usage, Verdict
from providers.dialects import adapter_for

BASES = {
    "openai": "/openai/v1",
    "anthropic": "/anthropic/v1",
    "gemini": "/gemini/v1beta",
    "cohere": "/cohere",
    "bedrock": "/bedrock",
}
ASK = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello dear sandbox"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}


class Caller:
    """Calls one dialect through its adapter, as the gateway does."""

    def __init__(self, http: httpx2.Client, dialect: str) -> None:
        self.http = http
        self.adapter = adapter_for(dialect)
        self.upstream = Upstream(
            provider=dialect,
            base_url=str(http.base_url).rstrip("/") + BASES[dialect],
            model="model-x",
            secret="sk-test",
            max_output=100,
        )

    def send(self, call: Call, secret: str = "sk-test", fault: str = "") -> tuple[Outcome, bytes]:
        request = self.adapter.request(call, replace(self.upstream, secret=secret))
        headers = {**request.headers, **({"x-sandbox-fault": fault} if fault else {})}
        with httpx2.Client() as bare:
            answer = bare.request(
                request.method, request.url, content=request.body, headers=headers
            )
        return self.adapter.outcome(
            answer.status_code, answer.headers, answer.content
        ), answer.content

    def whole(
        self, params: dict[str, Any], operation: str = "chat.completions"
    ) -> tuple[Any, Usage]:
        call = Call(operation, params, orjson.dumps(params))
        outcome, body = self.send(call)
        assert outcome.verdict is Verdict.OK, outcome
        meter = self.adapter.meter(call, self.upstream)
        answer = orjson.loads(meter.whole(outcome, body).body)
        assert meter.usage
        return answer, meter.usage

    def stream(self, params: dict[str, Any]) -> tuple[list[Any], Usage]:
        params = {**params, "stream": True, "stream_options": {"include_usage": True}}
        call = Call("chat.completions", params, orjson.dumps(params))
        _, body = self.send(call)
        meter = self.adapter.meter(call, self.upstream)
        lines = b"".join([*meter.feed(body), *meter.close()]).split(b"\n\n")
        assert meter.complete
        assert meter.usage
        documents = [line.removeprefix(b"data: ") for line in lines if line]
        assert documents[-1] == b"[DONE]"
        return [orjson.loads(document) for document in documents[:-1]], meter.usage


@pytest.fixture(params=sorted(BASES))
def caller(request: pytest.FixtureRequest, http: httpx2.Client) -> Caller:
    return Caller(http, request.param)


def test_text_and_usage_are_the_same_everywhere(caller: Caller) -> None:
    answer, usage = caller.whole({"model": "m", "messages": ASK})
    assert answer["choices"][0]["message"]["content"] == "You said: Hello dear sandbox"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert (usage.input_tokens, usage.output_tokens) == (5, 5)


def test_streams_say_the_same(caller: Caller) -> None:
    chunks, usage = caller.stream({"model": "m", "messages": ASK})
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert "".join(filter(None, said)) == "You said: Hello dear sandbox"
    assert len(list(filter(None, said))) == 5
    assert (usage.input_tokens, usage.output_tokens) == (5, 5)


def test_a_limit(caller: Caller) -> None:
    answer, usage = caller.whole({"model": "m", "messages": ASK, "max_tokens": 3})
    assert answer["choices"][0]["finish_reason"] == "length"
    assert usage.output_tokens == 3


def test_tool_calls_and_their_results(caller: Caller) -> None:
    params = {"model": "m", "messages": ASK, "tools": [TOOL], "tool_choice": "required"}
    answer, usage = caller.whole(params)
    message = answer["choices"][0]["message"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert orjson.loads(message["tool_calls"][0]["function"]["arguments"]) == {
        "city": "sample",
        "days": 2,
    }
    assert usage.output_tokens == 5
    _, streamed = caller.stream(params)
    assert streamed.output_tokens == 5
    call = message["tool_calls"][0]
    result = {"role": "tool", "tool_call_id": call["id"], "content": '{"sky": "blue", "c": 21}'}
    follow_up = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    after, usage = caller.whole({**params, "messages": follow_up})
    assert after["choices"][0]["message"]["content"] == (
        'The tool answered: {"sky": "blue", "c": 21}'
    )
    # Two system words, three of the user, two of the arguments, two of the result.
    assert usage.input_tokens == 9


def test_json_that_fits_the_schema(caller: Caller) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
    answer, _ = caller.whole({"model": "m", "messages": ASK, "response_format": wanted})
    assert orjson.loads(answer["choices"][0]["message"]["content"]) == {"city": "sample", "days": 2}


def test_a_refused_secret_is_known_as_such(caller: Caller) -> None:
    params = {"model": "m", "messages": ASK}
    outcome, _ = caller.send(Call("chat.completions", params, orjson.dumps(params)), "sk-bad-1")
    assert outcome.verdict is Verdict.AUTH


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ("status=429;retry_after=7", Verdict.RATE_LIMITED),
        ("status=500", Verdict.UNAVAILABLE),
        ("status=503", Verdict.UNAVAILABLE),
        ("malformed_json", Verdict.BAD_PAYLOAD),
        ("truncated_json", Verdict.BAD_PAYLOAD),
        ("empty_body", Verdict.BAD_PAYLOAD),
        ("html", Verdict.BAD_PAYLOAD),
    ],
)
def test_faults_are_judged_alike(caller: Caller, fault: str, verdict: Verdict) -> None:
    params = {"model": "m", "messages": ASK}
    call = Call("chat.completions", params, orjson.dumps(params))
    outcome, _ = caller.send(call, fault=fault)
    assert outcome.verdict is verdict
    if "retry_after" in fault:
        assert outcome.retry_after == 7


@pytest.mark.parametrize("dialect", ["openai", "gemini", "cohere"])
def test_embeddings(http: httpx2.Client, dialect: str) -> None:
    caller = Caller(http, dialect)
    params = {"model": "m", "input": ["one two", "three"], "dimensions": 8}
    call = Call("embeddings", params, orjson.dumps(params))
    outcome, body = caller.send(call)
    assert outcome.verdict is Verdict.OK
    made = orjson.loads(caller.adapter.meter(call, caller.upstream).whole(outcome, body).body)
    assert [len(each["embedding"]) for each in made["data"]] == [8, 8]
