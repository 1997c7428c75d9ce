"""Calls in other dialects than chat's own are calls like others: limited, billed, kept, repeated,
rescued and broken off alike, whichever dialect the provider speaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from providers.sandbox.dialects import DIALECTS
from providers.sandbox.dialects.dialect import Request
from providers.sse import Decoder
from tenants.keys import Mode
from tenants.limits import RateLimit, Scope
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    FOREVER,
    HELLO,
    Client,
    Reply,
    Rig,
    chat,
    event,
    failure,
    provider,
    route,
    stream,
    target,
)
from tests.loops import eventually, on_loop

KEPT = {"ttl": 300, "stale_while_revalidate": 60, "stale_if_error": 3600}
BASES = {
    "openai": "/v1",
    "anthropic": "/v1",
    "gemini": "/v1beta",
    "cohere": "",
}


@dataclass(frozen=True)
class Spoken:
    """One surface as these tests speak it: how to ask, and how to read what comes. `end` is
    what the last event of a whole stream begins with."""

    path: str
    ask: Callable[..., dict[str, Any]]
    said: Callable[[Client], str]
    end: bytes
    kind: Callable[[Client], str]


def events(client: Client) -> list[dict[str, Any]]:
    return [json.loads(each.data) for each in Decoder().feed(client.body)]


def last_event(client: Client) -> bytes:
    assert client.body.endswith(b"\n\n")
    return client.body[:-2].rpartition(b"\n\n")[2]


def a_message(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": HELLO, **more}


def of_message(client: Client) -> str:
    if "event-stream" not in client.headers["content-type"]:
        return "".join(block["text"] for block in client.json["content"])
    return "".join(
        e["delta"].get("text", "") for e in events(client) if "index" in e and "delta" in e
    )


def a_response(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_output_tokens": 100, "input": "hello", **more}


def of_response(client: Client) -> str:
    if "event-stream" not in client.headers["content-type"]:
        parts = [part for item in client.json["output"] for part in item["content"]]
        return "".join(part["text"] for part in parts)
    told = [e for e in events(client) if e["type"] == "response.output_text.delta"]
    return "".join(each["delta"] for each in told)


SURFACES = {
    "responses": Spoken(
        "/api/v1/responses",
        a_response,
        of_response,
        b"event: response.completed",
        lambda client: str(client.json["error"]["type"]),
    ),
    "messages": Spoken(
        "/api/v1/messages",
        a_message,
        of_message,
        b"event: message_stop",
        lambda client: client.json["error"]["type"],
    ),
}
every_surface = pytest.mark.parametrize("spoken", SURFACES.values(), ids=SURFACES.keys())
both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def said_in_chat(client: Client) -> str:
    if "event-stream" in client.headers["content-type"]:
        return client.text
    return str(client.json["choices"][0]["message"]["content"])


async def ask(rig: Rig, spoken: Spoken, **more: Any) -> Client:
    own = {k: more.pop(k) for k in ("key", "headers", "peer") if k in more}
    return await rig.ask(spoken.path, body=spoken.ask(**more), **own)


def answering(rig: Rig) -> None:
    rig.upstreams.script = lambda request: (
        stream() if b'"stream":true' in (request.body or b"") else chat()
    )


def sandboxed(rig: Rig, dialect: str) -> None:
    """The sandbox answers in a dialect, without a socket."""
    rig.serve(
        route(
            target(provider(dialect, dialect, base_url=f"https://{dialect}.test{BASES[dialect]}"))
        )
    )

    def script(request: Any) -> Reply:
        path, _, query = request.url.removeprefix(f"https://{dialect}.test").partition("?")
        asked = Request(dialect, request.method, path, query, request.headers, request.body or b"")
        speaker = next(each for each in DIALECTS if each.operation(asked))
        answer = speaker.answer(asked, speaker.operation(asked) or "")
        if answer.events is None:
            return Reply([answer.body], answer.status)
        parts = [part.data for part in answer.events]
        return Reply(parts, 200, {"content-type": "text/event-stream"})

    rig.upstreams.script = script


@both
@pytest.mark.parametrize("dialect", sorted(BASES))
@every_surface
@on_loop
async def test_every_provider_answers_in_the_clients_dialect(
    rig: Rig, spoken: Spoken, dialect: str, *, streamed: bool
) -> None:
    """The same words, and the same bill, as a chat call's."""
    sandboxed(rig, dialect)
    asked = await ask(rig, spoken, stream=streamed)
    assert asked.status == 200, asked.body
    plain = await rig.chat(stream=streamed, max_tokens=100)
    assert spoken.said(asked) == said_in_chat(plain) != ""
    (one, other) = rig.journal.finals
    assert one.record.operation == other.record.operation == "chat.completions"
    assert (one.record.route, one.record.streamed) == ("m", streamed)
    for name in ("input_tokens", "output_tokens", "cost", "charge", "provider", "model"):
        assert getattr(one.record, name) == getattr(other.record, name)
    for name in ("x-patchbay-provider", "x-patchbay-attempts", "x-patchbay-cost-microusd"):
        assert asked.headers.get(name) == plain.headers.get(name)
    if streamed:
        assert last_event(asked).startswith(spoken.end)
    else:
        assert int(asked.headers["content-length"]) == len(asked.body)


@both
@every_surface
@on_loop
async def test_the_row_is_durable_before_the_last_byte(
    rig: Rig, spoken: Spoken, *, streamed: bool
) -> None:
    answering(rig)
    rig.journal.turns = 3
    asked = await ask(rig, spoken, stream=streamed)
    assert asked.status == 200
    assert asked.rows_at_the_end == 1
    if streamed:
        early = b"".join(message["body"] for message in asked.messages[1:-1])
        assert spoken.end not in early
        assert spoken.end in asked.messages[-1]["body"]
        assert last_event(asked).startswith(spoken.end)


@every_surface
@on_loop
async def test_a_limit_counts_all_dialects_together(rig: Rig, spoken: Spoken) -> None:
    limits = (RateLimit(Scope.KEY, 2, 60, operations=("chat.completions",)),)
    key = rig.callers.add(rate_limits=limits)
    assert (await ask(rig, spoken, key=key)).status == 200
    assert (await rig.chat(key=key)).status == 200
    refused = await ask(rig, spoken, key=key)
    assert refused.status == 429
    assert spoken.kind(refused) == "rate_limit_error"
    assert int(refused.headers["retry-after"]) > 0
    assert len(rig.upstreams.sent) == 2


@every_surface
@on_loop
async def test_a_quota_of_bytes_and_of_tokens_is_used(rig: Rig, spoken: Spoken) -> None:
    quotas = tuple(
        Quota(QuotaScope.TENANT, metric, Window.DAY, 10_000)
        for metric in (Metric.BYTES, Metric.TOKENS)
    )
    key = rig.callers.add(quotas=quotas)
    assert (await ask(rig, spoken, key=key)).status == 200
    assert rig.final.record.bytes > 0
    assert rig.final.record.input_tokens == 7


@every_surface
@on_loop
async def test_a_scope_is_that_of_chat(rig: Rig, spoken: Spoken) -> None:
    key = rig.callers.add(scopes=frozenset({"embeddings"}))
    refused = await ask(rig, spoken, key=key)
    assert refused.status == 403
    assert spoken.kind(refused) == "permission_error"
    assert (
        await ask(rig, spoken, key=rig.callers.add(scopes=frozenset({"chat.completions"})))
    ).status == 200


@every_surface
@on_loop
async def test_it_falls_back(rig: Rig, spoken: Spoken) -> None:
    rig.serve(route(target("one"), target("two")))
    rig.upstreams.by_provider(one=failure, two=chat)
    asked = await ask(rig, spoken)
    assert (asked.status, asked.headers["x-patchbay-provider"]) == (200, "two")
    assert len(rig.journal.finals) == 1


@every_surface
@on_loop
async def test_nobody_answers(rig: Rig, spoken: Spoken) -> None:
    rig.upstreams.script = lambda request: failure()
    refused = await ask(rig, spoken)
    assert refused.status >= 500
    assert refused.json["error"]["code"] in ("upstream_rejected", "provider_unavailable")
    assert refused.headers["content-type"] == "application/json"


@every_surface
@on_loop
async def test_a_stream_that_breaks_never_looks_like_success(rig: Rig, spoken: Spoken) -> None:
    rig.upstreams.script = lambda request: stream(event("hello "), b"data: nonsense\n\n")
    cut = await ask(rig, spoken, stream=True)
    assert cut.status == 200
    assert spoken.said(cut) == "hello "
    assert spoken.end not in cut.body
    assert "upstream_rejected" in json.dumps(events(cut)[-1])
    assert rig.final.record.code == "stream_cut"


@pytest.mark.parametrize("mode", ["restart", "continue"])
@every_surface
@on_loop
async def test_a_stream_is_rescued(rig: Rig, spoken: Spoken, mode: str) -> None:
    rig.serve(route(target("one"), target("two"), rescue=mode))
    rest = (
        event("hello back"),
        event(),
        event(usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}),
        b"data: [DONE]\n\n",
    )
    rig.upstreams.by_provider(
        one=lambda: stream(event("hello "), b"data: nonsense\n\n"), two=lambda: stream(*rest)
    )
    asked = await ask(rig, spoken, stream=True)
    assert spoken.said(asked).startswith("hello ")
    assert "back" in spoken.said(asked)
    assert last_event(asked).startswith(spoken.end)


@every_surface
@on_loop
async def test_who_hangs_up_pays_for_what_came(rig: Rig, spoken: Spoken) -> None:
    rig.upstreams.script = lambda request: stream(event("hello "), FOREVER)
    client = rig.client(json.dumps(spoken.ask(stream=True)).encode())
    client.on_message = lambda message: (
        client.gone.set() if b"hello" in message.get("body", b"") else None
    )
    await rig.run(client, spoken.path)
    assert rig.final.record.estimate == "hung_up"
    assert rig.upstreams.replies[0].closed


@both
@every_surface
@on_loop
async def test_an_answer_is_kept_for_all_dialects(
    rig: Rig, spoken: Spoken, *, streamed: bool
) -> None:
    """In chat's own form: any of them finds it, whole or as a stream."""
    rig.serve(route(target("lab"), cache=KEPT))
    answering(rig)
    first = await ask(rig, spoken, stream=streamed, temperature=0)
    assert first.headers["x-patchbay-cache"] == "miss"
    for again in (False, True):
        hit = await ask(rig, spoken, stream=again, temperature=0)
        assert hit.headers["x-patchbay-cache"] == "hit"
        assert spoken.said(hit) == "hello back"
        if again:
            assert last_event(hit).startswith(spoken.end)
    other = await rig.chat(stream=streamed, temperature=0, max_tokens=100)
    assert other.headers["x-patchbay-cache"] == "hit"
    assert said_in_chat(other) == "hello back"
    assert len(rig.upstreams.sent) == 1


@every_surface
@on_loop
async def test_what_chat_kept_is_found(rig: Rig, spoken: Spoken) -> None:
    rig.serve(route(target("lab"), cache=KEPT))
    await rig.chat(temperature=0, max_tokens=100)
    hit = await ask(rig, spoken, temperature=0)
    assert hit.headers["x-patchbay-cache"] == "hit"
    assert spoken.said(hit) == "hello back"
    assert len(rig.upstreams.sent) == 1


@both
@every_surface
@on_loop
async def test_what_is_stale_is_fetched_again_behind(
    rig: Rig, spoken: Spoken, *, streamed: bool
) -> None:
    rig.serve(route(target("lab"), cache=KEPT))
    answering(rig)
    await ask(rig, spoken, temperature=0, stream=streamed)
    rig.clock.advance(310)
    stale = await ask(rig, spoken, temperature=0, stream=streamed)
    assert stale.headers["x-patchbay-cache"] == "stale"
    assert spoken.said(stale) == "hello back"
    await eventually(lambda: rig.gateway.cache.figures.stored == 2)
    fresh = await ask(rig, spoken, temperature=0, stream=streamed)
    assert fresh.headers["x-patchbay-cache"] == "hit"
    assert len(rig.upstreams.sent) == 2


@both
@every_surface
@on_loop
@pytest.mark.django_db(transaction=True)
async def test_a_repeated_call_is_answered_as_it_was(
    rig: Rig, spoken: Spoken, *, streamed: bool
) -> None:
    answering(rig)
    headers = {"Idempotency-Key": "k-1"}
    first, second = [await ask(rig, spoken, stream=streamed, headers=headers) for _ in range(2)]
    assert first.status == second.status == 200
    assert second.body == first.body
    assert second.headers["content-type"] == first.headers["content-type"]
    assert int(second.headers["content-length"]) == len(second.body)
    assert second.headers["idempotency-replayed"] == "true"
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 1
    other = await rig.chat(headers=headers)
    assert other.status == 422, "chat's own form is another request"


@every_surface
@on_loop
@pytest.mark.django_db(transaction=True)
async def test_a_cut_stream_is_not_repeated(rig: Rig, spoken: Spoken) -> None:
    rig.upstreams.script = lambda request: stream(event("hello "), b"data: nonsense\n\n")
    headers = {"Idempotency-Key": "k-1"}
    await ask(rig, spoken, stream=True, headers=headers)
    again = await ask(rig, spoken, stream=True, headers=headers)
    assert (again.status, again.json["error"]["code"]) == (409, "idempotency_conflict")


@every_surface
@on_loop
@pytest.mark.django_db(transaction=True)
async def test_a_providers_refusal_is_repeated_in_the_same_envelope(
    rig: Rig, spoken: Spoken
) -> None:
    rig.upstreams.script = lambda request: failure()
    headers = {"Idempotency-Key": "k-1"}
    first, second = [await ask(rig, spoken, headers=headers) for _ in range(2)]
    assert second.headers["idempotency-replayed"] == "true"
    assert (second.status, second.body) == (first.status, first.body)


@every_surface
@on_loop
async def test_test_mode_goes_to_the_sandbox_and_is_free(rig: Rig, spoken: Spoken) -> None:
    asked = await ask(rig, spoken, key=rig.callers.add(mode=Mode.TEST))
    assert asked.status == 200
    assert rig.upstreams.sent[0].url.startswith("http://sandbox.test/")
    assert rig.final.record.charge == 0


BAD: Sequence[bytes] = (b"", b"[]", b"{", b'{"model": "m"}', b'{"model": 1}', b"\xff")


@pytest.mark.parametrize("body", BAD)
@every_surface
@on_loop
async def test_a_body_that_is_none_is_refused_in_the_clients_envelope(
    rig: Rig, spoken: Spoken, body: bytes
) -> None:
    refused = await rig.ask(spoken.path, body=body)
    assert refused.status == 400
    assert spoken.kind(refused) == "invalid_request_error"
    assert not rig.upstreams.sent


@every_surface
@on_loop
async def test_the_unversioned_path_is_the_same(rig: Rig, spoken: Spoken) -> None:
    asked = await rig.ask(spoken.path.replace("/v1", ""), body=spoken.ask())
    assert asked.status == 200
    assert spoken.said(asked) == "hello back"


@every_surface
@on_loop
async def test_a_refused_method_says_which_is_right(rig: Rig, spoken: Spoken) -> None:
    refused = await rig.ask(spoken.path, body=spoken.ask(), method="GET")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")


# Anthropic's own.


@pytest.mark.parametrize("mode", ["restart", "continue"])
@on_loop
async def test_nobody_but_anthropic_is_told_what_only_anthropic_knows(rig: Rig, mode: str) -> None:
    """Not the next target either, nor the one that goes on with a stream."""
    one = target(provider("one", "anthropic"), "claude-x")
    rig.serve(route(one, target("two"), target("three"), rescue=mode))
    cut = lambda: stream(event("hello "), b"data: nonsense\n\n")  # noqa: E731
    rig.upstreams.by_provider(one=failure, two=cut, three=stream)
    mark = {"cache_control": {"type": "ephemeral"}}
    said = [{"role": "user", "content": [{"type": "text", "text": "hello", **mark}]}]
    await rig.ask("/api/v1/messages", body=a_message(stream=True, messages=said))
    assert rig.upstreams.asked == ["one", "two", "three"]
    told = [b"ephemeral" in (request.body or b"") for request in rig.upstreams.sent]
    assert told == [True, False, False]


COUNT = "/api/v1/messages/count_tokens"


@on_loop
async def test_a_count_asks_nobody_and_costs_nothing(rig: Rig) -> None:
    asked = await rig.ask(COUNT, body={"model": "m", "messages": HELLO, "system": "Be kind."})
    assert asked.status == 200
    assert asked.json == {"input_tokens": 21}
    assert not rig.upstreams.sent
    assert not rig.journal.entries


@on_loop
async def test_a_count_is_what_a_message_reserves(rig: Rig) -> None:
    long = [{"role": "user", "content": "word " * 3000}]
    told = (await rig.ask(COUNT, body={"model": "m", "messages": long})).json["input_tokens"]
    assert told == 5008


@on_loop
async def test_a_count_is_limited_like_a_list(rig: Rig) -> None:
    key = rig.callers.add(rate_limits=(RateLimit(Scope.KEY, 1, 60),))
    body = {"model": "m", "messages": HELLO}
    answers = [await rig.ask(COUNT, body=body, key=key) for _ in range(2)]
    assert [each.status for each in answers] == [200, 429]
    assert answers[1].json["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    ("more", "status"), [({"model": "nope"}, 404), ({"messages": []}, 400), ({"seed": 1}, 400)]
)
@on_loop
async def test_a_count_of_what_cannot_be_asked(rig: Rig, more: Any, status: int) -> None:
    refused = await rig.ask(COUNT, body={"model": "m", "messages": HELLO, **more})
    assert refused.status == status
    assert refused.json["type"] == "error"


@on_loop
async def test_anthropics_clients_find_the_request_id(rig: Rig) -> None:
    for asked in (
        await rig.ask("/api/v1/messages", body=a_message()),
        await rig.ask(COUNT, body={}),
    ):
        assert asked.headers["request-id"] == asked.headers["x-request-id"]


@on_loop
async def test_a_quiet_provider_is_covered_by_pings(rig: Rig, monkeypatch: Any) -> None:
    from gateway.relay import COMMENT, QUIET
    from lib.later import Later

    monkeypatch.setattr("gateway.relay.QUIET", Later(0.005))
    assert QUIET is not None
    rig.upstreams.script = lambda request: stream(event("hello "), FOREVER)
    client = rig.client(json.dumps(a_message(stream=True)).encode())
    client.on_message = lambda message: (
        client.gone.set() if b"event: ping" in message.get("body", b"") else None
    )
    await rig.run(client, "/api/v1/messages")
    assert COMMENT not in client.body
