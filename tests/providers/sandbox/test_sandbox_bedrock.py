"""Bedrock's dialect in the sandbox: signatures that are checked on what came over the wire."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest

from providers.adapter import StreamFault
from providers.adapters.bedrock import ADAPTER
from providers.call import Call, Outcome, Upstream, Verdict
from providers.sandbox.server import SandboxServer
from providers.secret_form import parts_of

CLIENT = httpx2.Client(verify=False)  # to read the CAs takes ten times as long as a call
PARTS = parts_of(ADAPTER.secret_form.of_the_sandbox("sandbox-secret"))
HI = [{"role": "user", "content": "Hello dear sandbox"}]


def upstream(sandbox: SandboxServer, model: str = "us.x-v1:0", **parts: str) -> Upstream:
    base = f"{sandbox.url}/bedrock"
    return Upstream("bedrock", base, model, "{", parts={**PARTS, **parts}, now=time.time())


def sent(call: Call, to: Upstream, **headers: str) -> tuple[Outcome, httpx2.Response]:
    request = ADAPTER.request(call, to)
    answer = CLIENT.post(request.url, content=request.body, headers={**request.headers, **headers})
    return ADAPTER.outcome(answer.status_code, answer.headers, answer.content), answer


def chat(**params: Any) -> Call:
    return Call("chat.completions", {"messages": HI, **params})


def test_what_the_adapter_signs_is_what_arrives(sandbox: SandboxServer) -> None:
    for call in (chat(), chat(stream=True), Call("embeddings", {"input": "x"})):
        is_chat = call.operation == "chat.completions"
        to = upstream(sandbox, "us.x-v1:0/y" if is_chat else "amazon.titan-embed-text-v2:0")
        for signer in (to, replace(to, parts={**PARTS, "session_token": "a/b+c="})):
            outcome, answer = sent(call, signer)
            assert outcome.verdict is Verdict.OK, answer.text


@pytest.mark.parametrize("parts", [{"access_key_id": "sk-bad-1"}, {"secret_access_key": "another"}])
def test_a_wrong_key_is_refused(sandbox: SandboxServer, parts: dict[str, str]) -> None:
    outcome, _ = sent(chat(), upstream(sandbox, **parts))
    assert outcome.verdict is Verdict.AUTH


def test_a_request_that_was_changed_on_its_way_is_refused(sandbox: SandboxServer) -> None:
    request = ADAPTER.request(chat(), upstream(sandbox))
    body = (request.body or b"").replace(b"dear", b"DEAR")
    assert CLIENT.post(request.url, content=body, headers=dict(request.headers)).status_code == 403
    unsigned = {"content-type": "application/json"}
    assert CLIENT.post(request.url, content=request.body, headers=unsigned).status_code == 403


def test_a_stream_is_binary_and_breaks_off_as_told(sandbox: SandboxServer) -> None:
    _, answer = sent(chat(stream=True), upstream(sandbox))
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    for fault in ("error_event=2", "malformed_sse=2"):
        _, answer = sent(chat(stream=True), upstream(sandbox), **{"x-sandbox-fault": fault})
        meter = ADAPTER.meter(chat(stream=True), upstream(sandbox))
        with pytest.raises(StreamFault):
            meter.feed(answer.content)
    _, answer = sent(
        chat(stream=True), upstream(sandbox), **{"x-sandbox-fault": "cut_after=3;cut=clean"}
    )
    meter = ADAPTER.meter(chat(stream=True), upstream(sandbox))
    assert meter.feed(answer.content)
    assert not meter.complete


def test_calls_are_counted_under_their_model(sandbox: SandboxServer) -> None:
    sent(chat(), upstream(sandbox))
    sandbox.control("PUT", "faults/bedrock", {"status": 429, "model": "us.x-v1:0"})
    outcome, answer = sent(chat(), upstream(sandbox))
    assert outcome.verdict is Verdict.RATE_LIMITED
    assert answer.headers["x-amzn-errortype"].startswith("ThrottlingException")
    assert sent(chat(), upstream(sandbox, "other"))[0].verdict is Verdict.OK


def test_embeddings_of_both_makers(sandbox: SandboxServer) -> None:
    for model, texts in (
        ("amazon.titan-embed-text-v2:0", ["x"]),
        ("cohere.embed-v4:0", ["x", "y"]),
    ):
        call = Call("embeddings", {"input": texts, "dimensions": 8})
        outcome, answer = sent(call, upstream(sandbox, model))
        made = ADAPTER.meter(call, upstream(sandbox, model)).whole(outcome, answer.content)
        data = orjson.loads(made.body)["data"]
        assert [len(each["embedding"]) for each in data] == [8] * len(texts)
