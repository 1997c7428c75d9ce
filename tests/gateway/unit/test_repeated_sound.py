"""Idempotency-Key where an answer is sound, or a request is a form."""

from __future__ import annotations

import pytest

from lib.multipart import Part, encode
from providers.transport import TransportFault
from tests.gateway.unit.rig import Client, Reply, Rig, route, target, whole
from tests.loops import on_loop

pytestmark = pytest.mark.django_db(transaction=True)

SPEECH, LISTEN = "/api/v1/audio/speech", "/api/v1/audio/transcriptions"
SAY = {"model": "m", "input": "hello", "voice": "alloy"}
KEY = {"Idempotency-Key": "k"}


def spoken(*parts: bytes | TransportFault) -> Reply:
    return Reply(parts, 200, {"content-type": "audio/mpeg"})


async def say(rig: Rig) -> Client:
    return await rig.ask(SPEECH, body=SAY, headers=KEY)


@on_loop
async def test_sound_is_repeated_and_not_made_again(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="audio.speech")))
    rig.upstreams.script = lambda request: spoken(b"\xff\xfbsome", b"more")
    first, second = await say(rig), await say(rig)
    assert second.body == first.body == b"\xff\xfbsomemore"
    assert second.headers["content-type"] == "audio/mpeg"
    assert second.headers["idempotency-replayed"] == "true"
    assert len(rig.upstreams.sent) == len(rig.journal.finals) == 1


@on_loop
async def test_sound_that_broke_off_is_lost_and_never_made_again(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="audio.speech")))
    rig.upstreams.script = lambda request: spoken(b"some", TransportFault("unreachable", "gone"))  # type: ignore[arg-type]
    assert not (await say(rig)).ended
    second = await say(rig)
    assert (second.status, second.error["code"]) == (409, "idempotency_conflict")
    assert "retry-after" not in second.headers
    assert len(rig.upstreams.sent) == 1


async def listen(rig: Rig, boundary: str, content: bytes = b"sound", **fields: str) -> Client:
    parts = [Part("model", b"m"), *(Part(n, v.encode()) for n, v in fields.items())]
    kind, body = encode(boundary, [*parts, Part("file", content, "a.wav", "audio/wav")])
    return await rig.ask(LISTEN, body=body, headers={"content-type": kind, **KEY})


@on_loop
async def test_a_form_is_the_same_whatever_stands_between_its_parts(rig: Rig) -> None:
    rig.serve(route(target("lab", operation="audio.transcriptions")))
    rig.upstreams.script = lambda request: whole({"text": "hello"})
    first, second = await listen(rig, "aaa"), await listen(rig, "bbb")
    assert (second.body, second.headers["idempotency-replayed"]) == (first.body, "true")
    assert len(rig.upstreams.sent) == 1
    other = await listen(rig, "aaa", b"noise")
    field = await listen(rig, "aaa", language="en")
    assert [each.status for each in (other, field)] == [422, 422]
