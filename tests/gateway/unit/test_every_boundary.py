"""Streams cut in two at every byte say what they say whole. The suites of the dialects cut the same
recordings byte by byte, and in two at 200 to 1,000 places spread evenly; this is at all of them."""

from __future__ import annotations

import copy
import itertools

import pytest
import time_machine

from providers.adapter import Adapter, Meter, StreamFault
from providers.adapters.bedrock.eventstream import encoded
from providers.call import Call, Upstream
from providers.dialects import adapter_for
from tests.gateway.unit.recorded_requests import HELLO
from tests.gateway.unit.recordings import recordings

PARAMS = {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
UPSTREAM = Upstream("lab", "https://lab.example/v1", "m", "key")
LARGE = 16_000  # bytes: to read a larger one whole for each of its bytes would take hours


def event(kind: str, payload: bytes) -> bytes:
    return encoded({":message-type": "event", ":event-type": kind}, payload)


BEDROCK = b"".join(
    [
        event("messageStart", b'{"role":"assistant"}'),
        *(
            event(
                "contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"h\xc3\xa9 %d"}}' % n
            )
            for n in range(20)
        ),
        event("contentBlockStop", b'{"contentBlockIndex":0}'),
        event("messageStop", b'{"stopReason":"end_turn"}'),
        event("metadata", b'{"usage":{"inputTokens":7,"outputTokens":40}}'),
    ]
)
STREAMS = [
    pytest.param(adapter_for(each.file.adapter), each.body, id=each.path)
    for each in recordings()
    if each.is_stream and not each.not_ours
]
STREAMS.append(pytest.param(adapter_for("bedrock"), BEDROCK, id="bedrock, of our own making"))


def said(adapter: Adapter, *chunks: bytes) -> tuple[bytes, object]:
    """All that a client is told, and how it ended."""
    meter = meter_of(adapter)
    told: list[bytes] = []
    try:
        for chunk in chunks:
            told += meter.feed(chunk)
    except StreamFault as fault:
        return b"".join(told), fault.outcome
    return b"".join(told + meter.close()), left(meter)


def meter_of(adapter: Adapter) -> Meter:
    return adapter.meter(Call("chat.completions", dict(PARAMS), request_id="req-1"), UPSTREAM)


def test_there_are_streams_of_every_dialect() -> None:
    assert len(STREAMS) >= 48
    dialects = {param.values[0].name for param in STREAMS}  # type: ignore[union-attr]
    assert dialects == {"openai", "anthropic", "gemini", "cohere", "bedrock"}


@pytest.mark.only_long
@time_machine.travel(0, tick=False)  # `created` is the time of day
@pytest.mark.parametrize(("adapter", "body"), STREAMS)
def test_cut_at_every_byte_they_say_the_same(adapter: Adapter, body: bytes) -> None:
    expected = said(adapter, body)
    bytewise = [body[at : at + 1] for at in range(len(body))]
    assert said(adapter, *bytewise) == expected
    if len(body) > LARGE:
        cut_at_every_byte_of_each_event(adapter, body)
        return
    for cut in range(1, len(body)):
        assert said(adapter, body[:cut], body[cut:]) == expected, cut


def cut_at_every_byte_of_each_event(adapter: Adapter, body: bytes) -> None:
    """Each event and the next one, as they come after all before them: the same is said, and the
    reader is left the same."""
    reader, end = meter_of(adapter), b"\r\n\r\n" if b"\r\n" in body else b"\n\n"
    events = [event + end for event in body.split(end)]
    assert b"".join(events).removesuffix(end) == body
    for first, second in itertools.pairwise(events):
        both, whole = first + second, copy.deepcopy(reader)
        expected = b"".join(whole.feed(both))
        for cut in range(1, len(first) + 1):
            torn = copy.deepcopy(reader)
            assert b"".join(torn.feed(both[:cut]) + torn.feed(both[cut:])) == expected
            assert left(torn) == left(whole)
        reader.feed(first)
    assert reader.output_characters > 0


def left(meter: Meter) -> object:
    return meter.complete, meter.usage, meter.output_characters
