"""A dialect whose requests are dated and whose streams are binary, through the whole gateway."""

from __future__ import annotations

from typing import Any

import orjson

from providers.adapters.bedrock.eventstream import CONTENT_TYPE, encoded
from providers.adapters.bedrock.signing import moment_of
from providers.secret_form import written
from tenants.keys import Mode
from tests.gateway.unit.rig import Part, Reply, Rig, provider, route, target, whole
from tests.loops import on_loop

PARTS = {"access_key_id": "AKIDEXAMPLE000000", "secret_access_key": "hush-hush-hush"}
SAID = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hello back"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 7, "outputTokens": 3},
}


def lab(*secrets: str, slug: str = "bedrock") -> Any:
    return target(provider(slug, "bedrock", secrets={None: secrets or (written(PARTS),)}))


def event(kind: str, **document: Any) -> bytes:
    return encoded({":message-type": "event", ":event-type": kind}, orjson.dumps(document))


EVENTS = (
    event("messageStart", role="assistant"),
    event("contentBlockDelta", contentBlockIndex=0, delta={"text": "hello "}),
    event("contentBlockDelta", contentBlockIndex=0, delta={"text": "back"}),
    event("messageStop", stopReason="end_turn"),
    event("metadata", usage=SAID["usage"]),
)


def stream(*parts: Part) -> Reply:
    return Reply(parts, 200, {"content-type": CONTENT_TYPE})


@on_loop
async def test_each_attempt_is_signed_with_the_time_it_is_made(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.upstreams.script = lambda request: whole(SAID)
    for _ in range(2):
        client = await rig.chat()
        assert client.json["choices"][0]["message"]["content"] == "hello back"
        headers = rig.upstreams.sent[-1].headers
        assert headers["x-amz-date"] == moment_of(rig.clock.now())
        assert PARTS["access_key_id"] in headers["authorization"]
        rig.clock.advance(60)
    dates = [request.headers["x-amz-date"] for request in rig.upstreams.sent]
    assert len(set(dates)) == 2
    assert PARTS["secret_access_key"] not in str(rig.upstreams.sent)


@on_loop
async def test_a_binary_stream_is_relayed_as_openais(rig: Rig) -> None:
    rig.serve(route(lab()))
    raw = b"".join(EVENTS)
    for parts in (EVENTS, (raw,), [raw[at : at + 5] for at in range(0, len(raw), 5)]):
        rig.upstreams.script = lambda request, parts=parts: stream(*parts)  # type: ignore[misc]
        client = await rig.chat(stream=True)
        assert client.text == "hello back"
        assert client.body.endswith(b"data: [DONE]\n\n")
        assert client.headers["content-type"].startswith("text/event-stream")
    used = rig.journal.finals[-1].record
    assert (used.input_tokens, used.output_tokens) == (7, 3)


@on_loop
async def test_an_exception_before_the_first_word_goes_to_the_next_target(rig: Rig) -> None:
    refusal = {":message-type": "exception", ":exception-type": "throttlingException"}
    rig.serve(route(lab(), target("well")))
    rig.upstreams.by_provider(bedrock=lambda: stream(encoded(refusal, b'{"message": "slow"}')))
    client = await rig.chat()
    assert client.status == 200
    rig.upstreams.by_provider(bedrock=lambda: stream(b"data: no frame of ours\n\n"))
    assert (await rig.chat(stream=True)).status == 200
    assert rig.upstreams.asked == ["bedrock", "well"] * 2


@on_loop
async def test_a_stream_that_breaks_off_never_looks_whole(rig: Rig) -> None:
    rig.serve(route(lab()))
    broken = {":message-type": "exception", ":exception-type": "modelStreamErrorException"}
    for last in ((), (encoded(broken, b"{}"),), (EVENTS[2][:-1] + b"x",)):
        rig.upstreams.script = lambda request, last=last: stream(*EVENTS[:2], *last)  # type: ignore[misc]
        client = await rig.chat(stream=True)
        assert b"hello " in client.body
        assert b'"error"' in client.body
        assert b"[DONE]" not in client.body
        assert b'"finish_reason":"stop"' not in client.body


@on_loop
async def test_a_refusal_tells_no_part_of_the_secret(rig: Rig) -> None:
    rig.serve(route(lab()))
    words = f"key {PARTS['access_key_id']} of arn:aws:iam::123456789012:user/x, {written(PARTS)}"
    rig.upstreams.script = lambda request: whole({"message": words}, 400)
    client = await rig.chat()
    assert client.status == 400
    for secret in (*PARTS.values(), "123456789012"):
        assert secret not in client.body.decode()


@on_loop
async def test_nor_does_a_stream_that_breaks_off(rig: Rig) -> None:
    rig.serve(route(lab()))
    broken = {":message-type": "exception", ":exception-type": "modelStreamErrorException"}
    last = encoded(broken, orjson.dumps({"message": f"no, {PARTS['secret_access_key']}"}))
    rig.upstreams.script = lambda request: stream(*EVENTS[:2], last)
    client = await rig.chat(stream=True)
    assert b"[redacted]" in client.body
    assert PARTS["secret_access_key"].encode() not in client.body


@on_loop
async def test_in_test_mode_the_sandboxs_own_keys_sign(rig: Rig) -> None:
    rig.serve(route(lab()))
    rig.upstreams.script = lambda request: whole(SAID)
    client = await rig.chat(key=rig.callers.add(mode=Mode.TEST))
    assert client.status == 200
    (request,) = rig.upstreams.sent
    assert "Credential=sandbox-secret/" in request.headers["authorization"]
