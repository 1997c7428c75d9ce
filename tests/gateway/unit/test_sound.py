"""Speech and transcription on the data path: sound that goes out as it comes and is accounted for
like any stream, and recordings that come in as forms, within bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from lib.multipart import STEP, Part, encode, parse
from providers.call import UpstreamRequest, Verdict
from providers.prices import Prices
from providers.transport import TransportFault
from tenants.quotas import Metric, Quota, QuotaScope
from tenants.windows import Window
from tests.gateway.unit.rig import (
    FOREVER,
    Client,
    Reply,
    Rig,
    failure,
    route,
    target,
    whole,
)
from tests.gateway.unit.rig import Part as Piece
from tests.loops import eventually, on_loop

SPEECH, LISTEN = "/api/v1/audio/speech", "/api/v1/audio/transcriptions"
SAY = {"model": "m", "input": "twelve chars", "voice": "alloy"}
UNIT = Prices(unit=2_000_000)  # µUSD: 2 a character or second
# Looks like the end of a chat's stream, and is sound all the same.
SOUND = (b"ID3\x00\xff\xfb", b'"finish_reason": "stop"', b"\r\n\r\n[DONE]", b"\x00")


def sound(*parts: Piece, kind: str = "audio/mpeg") -> Reply:
    return Reply(parts or SOUND, 200, {"content-type": kind})


def lost() -> Exception:
    return TransportFault(Verdict.UNREACHABLE, "the answer was cut off")


@pytest.fixture
def speaker(rig: Rig) -> Rig:
    """Two providers that speak, for two µUSD a character."""
    targets = [target(slug, operation="audio.speech") for slug in ("lab", "lab2")]
    rig.serve(route(*targets), prices={each.name: UNIT for each in targets})
    rig.upstreams.script = lambda request: sound()
    return rig


@pytest.fixture
def listener(rig: Rig) -> Rig:
    rig.serve(
        route(target("lab", operation="audio.transcriptions")),
        prices={"lab/gpt-x": UNIT},
    )
    rig.upstreams.script = lambda request: whole(HEARD)
    return rig


HEARD = {
    "task": "transcribe",
    "text": "hello there",
    "language": "english",
    "duration": 2.4,
    "segments": [{"id": 0, "start": 0.0, "end": 2.4, "text": " hello there"}],
    "words": [{"word": "hello", "start": 0.0, "end": 1.0}],
    "usage": {"type": "duration", "seconds": 3},
}


# Speech


@on_loop
async def test_sound_arrives_as_it_was_and_is_billed_by_the_character(speaker: Rig) -> None:
    client = await speaker.ask(SPEECH, body=SAY)
    record = speaker.final.record
    assert client.body == b"".join(SOUND)
    assert client.headers["content-type"] == "audio/mpeg"
    assert client.headers["x-patchbay-provider"] == "lab"
    assert client.headers["x-patchbay-cost-microusd"] == str(record.charge)
    assert (record.units, record.cost, record.estimate) == (12, 24, "")
    assert (record.status, record.code, record.streamed) == (200, "ok", True)
    assert json.loads(speaker.upstreams.sent[0].body or b"")["model"] == "gpt-x"


@on_loop
async def test_its_open_row_comes_before_the_first_byte_and_its_last_before_the_last(
    speaker: Rig,
) -> None:
    rows: list[tuple[int, int]] = []
    client = speaker.client(json.dumps(SAY).encode())
    client.on_message = lambda message: rows.append(
        (len(speaker.journal.opened), len(speaker.journal.finals))
    )
    await speaker.run(client, SPEECH)
    assert rows[0] == (1, 0)
    assert rows[-2] == (1, 0)
    assert client.rows_at_the_end == 1
    assert len(client.messages[-1]["body"]) == 1
    assert speaker.journal.opened[0].record.cost == 24


@on_loop
async def test_sound_is_the_same_however_it_was_cut(speaker: Rig) -> None:
    random = Random(7)
    said = random.randbytes(64)
    for _ in range(40):
        cuts = sorted(random.choices(range(len(said) + 1), k=random.randrange(5)))
        parts = [said[start:end] for start, end in pairwise([0, *cuts, len(said)])]
        speaker.upstreams.script = lambda request, parts=parts: sound(*parts)  # type: ignore[misc]
        assert (await speaker.ask(SPEECH, body=SAY)).body == said


@on_loop
async def test_the_first_sound_does_not_wait_for_more(speaker: Rig) -> None:
    speaker.upstreams.script = lambda request: sound(b"first part", FOREVER)
    client = speaker.client(json.dumps(SAY).encode())
    task = asyncio.create_task(speaker.run(client, SPEECH))
    await eventually(lambda: client.body == b"first par")
    client.gone.set()
    await task
    record = speaker.final.record
    assert (record.status, record.code, record.estimate) == (499, "hung_up", "hung_up")
    assert record.cost == 24, "what was said is paid for, heard or not"
    assert speaker.upstreams.replies[0].closed


@on_loop
async def test_sound_that_breaks_off_never_looks_whole(speaker: Rig) -> None:
    speaker.upstreams.script = lambda request: sound(b"half of it", lost())
    client = await speaker.ask(SPEECH, body=SAY)
    assert client.status == 200
    assert not client.ended, "the connection ends without HTTP's own end"
    assert client.body == b"half of i", "and no text was mixed into the sound"
    record = speaker.final.record
    assert (record.code, record.estimate, record.cost) == ("stream_cut", "cut", 24)


@on_loop
async def test_sound_that_takes_longer_than_the_deadline_breaks_off(speaker: Rig) -> None:
    speaker.upstreams.script = lambda request: sound(b"half of it", FOREVER)
    client = await speaker.ask(SPEECH, body=SAY, headers={"x-patchbay-deadline-ms": "60"})
    assert not client.ended
    assert speaker.final.record.code == "stream_cut"


@on_loop
async def test_sound_whose_row_cannot_be_written_does_not_end_well(speaker: Rig) -> None:
    client = speaker.client(json.dumps(SAY).encode())

    def away(message: dict[str, Any]) -> None:
        speaker.journal.away = True

    client.on_message = away
    await speaker.run(client, SPEECH, headers={"x-patchbay-deadline-ms": "100"})
    assert client.status == 200
    assert not client.ended


REFUSED: dict[str, Callable[[], Reply | Exception]] = {
    "an error": lambda: failure(500),
    "no sound": lambda: whole({"oops": True}),
    "an empty answer": lambda: Reply([], 200, {"content-type": "audio/mpeg"}),
    "a page": lambda: Reply([b"<html>"], 200, {"content-type": "text/html"}),
    "a connection that breaks": lambda: sound(lost()),
}


@pytest.mark.parametrize("refusal", REFUSED.values(), ids=REFUSED.keys())
@on_loop
async def test_what_fails_before_the_first_sound_another_provider_takes_over(
    speaker: Rig, refusal: Callable[[], Reply | Exception]
) -> None:
    speaker.upstreams.by_provider(lab=refusal, lab2=sound)
    client = await speaker.ask(SPEECH, body=SAY)
    assert client.body == b"".join(SOUND)
    assert client.headers["x-patchbay-provider"] == "lab2"
    assert speaker.final.record.cost == 24


@on_loop
async def test_a_refusal_is_told_in_openais_words(speaker: Rig) -> None:
    error = {"error": {"message": "No such voice.", "type": "invalid_request_error"}}
    speaker.upstreams.script = lambda request: whole(error, 400)
    client = await speaker.ask(SPEECH, body=SAY)
    assert (client.status, client.error["message"]) == (400, "No such voice.")
    events = await speaker.ask(SPEECH, body={**SAY, "stream_format": "sse"})
    assert (events.status, events.error["param"]) == (400, "stream_format")


@on_loop
async def test_sound_is_never_kept_in_the_cache(speaker: Rig) -> None:
    wish = {"x-patchbay-cache-control": "max-age=60"}
    for _ in range(2):
        client = await speaker.ask(SPEECH, body=SAY, headers=wish)
        assert client.headers["x-patchbay-cache"] == "bypass"
    assert len(speaker.upstreams.sent) == 2
    only = {"x-patchbay-cache-control": "only-if-cached"}
    assert (await speaker.ask(SPEECH, body=SAY, headers=only)).error["code"] == "not_cached"


@pytest.mark.parametrize(("limit", "status"), [(23, 402), (24, 200)])
@on_loop
async def test_a_money_quota_is_held_to_the_digit(speaker: Rig, limit: int, status: int) -> None:
    quota = Quota(QuotaScope.TENANT, Metric.COST, Window.DAY, limit)
    key = speaker.callers.add(quotas=(quota,))
    assert (await speaker.ask(SPEECH, body=SAY, key=key)).status == status
    assert len(speaker.upstreams.sent) == (status == 200)


@pytest.mark.parametrize(("limit", "status"), [(11, 429), (12, 200)])
@on_loop
async def test_credits_count_what_is_billed_by(speaker: Rig, limit: int, status: int) -> None:
    quota = Quota(QuotaScope.TENANT, Metric.CREDITS, Window.DAY, limit)
    key = speaker.callers.add(quotas=(quota,))
    assert (await speaker.ask(SPEECH, body=SAY, key=key)).status == status


# Transcription


def recorded(content: bytes = bytes(4000), **fields: str) -> tuple[str, bytes]:
    parts = [Part(name, value.encode()) for name, value in ({"model": "m"} | fields).items()]
    return encode("xyz", [*parts, Part("file", content, "a.wav", "audio/wav")])


async def send(rig: Rig, form: tuple[str, bytes], **request: Any) -> Client:
    headers = {"content-type": form[0], **request.pop("headers", {})}
    return await rig.ask(LISTEN, body=form[1], headers=headers, **request)


def sent_form(request: UpstreamRequest) -> dict[str, Part]:
    parts = parse(request.headers["content-type"], request.body or b"")
    return {part.name: part for part in parts}


@on_loop
async def test_a_recording_reaches_its_provider_and_is_billed_by_the_second(
    listener: Rig,
) -> None:
    content = bytes(range(256)) * 4 + b"\r\n--xy not quite\r\n"
    form = recorded(content, language="en", temperature="0.5", prompt="Züri")
    client = await send(listener, form)
    assert client.json == {"text": "hello there", "usage": {"type": "duration", "seconds": 3}}
    passed = sent_form(listener.upstreams.sent[0])
    assert passed["file"] == Part("file", content, "a.wav", "audio/wav")
    assert passed["model"].content == b"gpt-x"
    assert (passed["language"].content, passed["temperature"].content) == (b"en", b"0.5")
    assert passed["prompt"].content.decode() == "Züri"
    record = listener.final.record
    assert (record.units, record.cost) == (3, 6)
    assert record.bytes >= len(form[1]), "all of the request counts"


@on_loop
async def test_a_large_recording_arrives_as_it_was(listener: Rig) -> None:
    """It is searched in steps: a boundary may lie across two of them."""
    for size in (STEP - 150, STEP - 80, STEP, 2 * STEP + 7):
        content = b"\r\n--xy" * (size // 6)
        assert (await send(listener, recorded(content))).status == 200
        assert sent_form(listener.upstreams.sent[-1])["file"].content == content


FORMS = {
    "text": (b"hello there\n", "text/plain; charset=utf-8"),
    "srt": (
        b"1\n00:00:00,000 --> 00:00:02,400\nhello there\n",
        "text/plain; charset=utf-8",
    ),
    "vtt": (
        b"WEBVTT\n\n00:00:00.000 --> 00:00:02.400\nhello there\n",
        "text/plain; charset=utf-8",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@on_loop
async def test_text_and_subtitles_are_made_of_what_the_provider_told(
    listener: Rig, form: str
) -> None:
    client = await send(listener, recorded(response_format=form))
    assert (client.body, client.headers["content-type"]) == FORMS[form]
    assert listener.final.record.units == 3, "and its length is known all the same"


@on_loop
async def test_a_list_needs_no_brackets_and_a_field_is_no_list(listener: Rig) -> None:
    asked = _of("timestamp_granularities", b"word") + MODEL + FILE + END
    kind = "multipart/form-data; boundary=xyz"
    assert (await send(listener, (kind, asked))).status == 200
    assert sent_form(listener.upstreams.sent[0])["timestamp_granularities[]"].content == b"word"
    refused = await send(listener, (kind, _of("language[]", b"en") + MODEL + FILE + END))
    assert (refused.status, refused.error["param"]) == (400, "language")
    wrong = _of("timestamp_granularities[]", b"letter") + MODEL + FILE + END
    assert (await send(listener, (kind, wrong))).status == 400


@on_loop
async def test_times_are_told_where_they_are_asked_for(listener: Rig) -> None:
    headers, body = recorded(response_format="verbose_json")
    body = body.replace(
        b"--xyz--",
        b'--xyz\r\nContent-Disposition: form-data; name="timestamp_granularities[]"'
        b"\r\n\r\nword\r\n--xyz--",
    )
    client = await send(listener, (headers, body))
    assert client.json["duration"] == 2.4
    assert client.json["segments"][0]["end"] == 2.4
    assert client.json["words"] == HEARD["words"]
    passed = sent_form(listener.upstreams.sent[0])
    assert passed["timestamp_granularities[]"].content == b"word"


def _of(name: str, value: bytes = b"x", more: str = "") -> bytes:
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


MODEL, FILE, END = _of("model", b"m"), _of("file", b"sound", '; filename="a"'), b"--xyz--\r\n"
MALFORMED: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, ""),
    "no boundary": (b"hello", 400, ""),
    "no end": (MODEL + FILE, 400, ""),
    "no file": (MODEL + END, 400, "file"),
    "a field for a file": (MODEL + _of("file") + END, 400, "file"),
    "two files": (MODEL + FILE + FILE + END, 400, "file"),
    "a file by another name": (MODEL + _of("sound", b"x", '; filename="a"') + END, 400, "file"),
    "an empty file": (MODEL + _of("file", b"", '; filename="a"') + END, 400, "file"),
    "no model": (FILE + END, 400, "model"),
    "two models": (MODEL + MODEL + FILE + END, 400, "model"),
    "a part without a name": (b"--xyz\r\nX: y\r\n\r\nz\r\n" + MODEL + FILE + END, 400, ""),
    "a huge head": (_of("x" * 5000) + MODEL + FILE + END, 400, ""),
    "a huge field": (_of("prompt", b"x" * 70_000) + MODEL + FILE + END, 400, ""),
    "too many parts": (b"".join(_of(f"f{n}") for n in range(70)) + FILE + END, 400, ""),
    "no number": (_of("temperature", b"warm") + MODEL + FILE + END, 400, "temperature"),
    "a stream": (_of("stream", b"true") + MODEL + FILE + END, 400, "stream"),
    "no such form": (_of("response_format", b"doc") + MODEL + FILE + END, 400, "response_format"),
    "a lone surrogate": (_of("prompt", b"\xed\xa0\x80") + MODEL + FILE + END, 400, "prompt"),
    "more than is taken": (MODEL + _of("file", bytes(6000), '; filename="a"') + END, 413, ""),
}


@pytest.mark.parametrize("case", MALFORMED)
@on_loop
async def test_what_is_no_such_form_is_refused_and_asks_nobody(
    make_rig: Callable[..., Rig], case: str
) -> None:
    body, status, param = MALFORMED[case]
    rig = make_rig(max_upload_bytes=5000 if case == "more than is taken" else 100_000)
    rig.serve(route(target("lab", operation="audio.transcriptions")))
    client = await send(rig, ("multipart/form-data; boundary=xyz", body))
    assert client.status == status, client.body
    assert client.error["message"]
    assert not param or client.error["param"] == param
    assert rig.upstreams.sent == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/mixed; boundary=xyz", ""]
)
@on_loop
async def test_another_type_is_refused(listener: Rig, kind: str) -> None:
    client = await send(listener, (kind, MODEL + FILE + END))
    assert client.status == (400 if kind == "multipart/form-data" else 415)


@on_loop
async def test_a_money_quota_bounds_what_a_recording_may_cost(listener: Rig) -> None:
    """4,000 bytes may be 8 seconds of sound at the thinnest, for 16 µUSD."""
    for limit, status in ((15, 402), (16, 200)):
        quota = Quota(QuotaScope.TENANT, Metric.COST, Window.DAY, limit)
        key = listener.callers.add(tenant=limit, quotas=(quota,))
        assert (await send(listener, recorded(), key=key)).status == status


@on_loop
async def test_a_length_that_nobody_tells_is_guessed_and_flagged(listener: Rig) -> None:
    listener.upstreams.script = lambda request: whole({"text": "hello"})
    await send(listener, recorded(bytes(40_000)))
    record = listener.final.record
    assert (record.units, record.estimate) == (3, "not_told")


@on_loop
async def test_what_was_heard_is_never_kept_in_the_cache(listener: Rig) -> None:
    for _ in range(2):
        wish = {"x-patchbay-cache-control": "max-age=60"}
        assert (await send(listener, recorded(), headers=wish)).status == 200
    assert len(listener.upstreams.sent) == 2
