"""What the data path tells of itself: lines and numbers that add up, and no secrets."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway import observation
from gateway.observation import Observer
from tests.gateway.unit.rig import Rig, failure, route, target
from tests.loops import eventually, on_loop


@pytest.fixture
def log(rig: Rig) -> io.BytesIO:
    output = io.BytesIO()
    rig.gateway.observer = Observer(output)
    return output


def lines(log: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@on_loop
async def test_a_line_a_call_soon(rig: Rig, log: io.BytesIO) -> None:
    client = await rig.chat(
        headers={"x-client-request-id": "0" * 8 + "-0000-4000-8000-" + "A" * 12}
    )
    await eventually(log.getvalue)
    (line,) = lines(log)
    assert line["request_id"] == client.headers["x-request-id"]
    assert line["client_request_id"] == "00000000-0000-4000-8000-aaaaaaaaaaaa"
    assert (line["operation"], line["status"], line["code"]) == ("chat.completions", 200, "ok")
    assert (line["provider"], line["model"], line["attempts"]) == ("lab", "gpt-x", 1)
    assert (line["tenant"], line["key"], line["mode"]) == (1, 1, "live")
    assert (line["input_tokens"], line["output_tokens"], line["charge_microusd"]) == (7, 3, 13)
    assert rig.key not in log.getvalue().decode()
    assert b"hello" not in log.getvalue()


@on_loop
async def test_a_refused_call_has_its_line_too(rig: Rig, log: io.BytesIO) -> None:
    await rig.chat(key="pb_live_junk")
    rig.gateway.observer.flush()
    (line,) = lines(log)
    assert line["status"] == 401
    assert "tenant" not in line
    assert "junk" not in str(line)


@on_loop
async def test_many_lines_do_not_wait(
    rig: Rig, log: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "MAX_WAITING_LINES", 3)
    for _ in range(4):
        await rig.chat()
    assert len(lines(log)) >= 3
    rig.gateway.observer.flush()
    assert len(lines(log)) == 4


@on_loop
@pytest.mark.unmeasured
async def test_the_numbers_add_up(rig: Rig, log: io.BytesIO) -> None:
    def numbers() -> list[float]:
        rig.gateway.observer.flush()
        return [
            sample("patchbay_requests_total", operation="chat.completions", status="200"),
            sample("patchbay_requests_total", operation="chat.completions", status="503"),
            sample(
                "patchbay_attempts_total",
                provider="counted",
                operation="chat.completions",
                outcome="ok",
            ),
            sample(
                "patchbay_attempts_total",
                provider="broken",
                operation="chat.completions",
                outcome="upstream_unavailable",
            ),
            sample("patchbay_tokens_total", provider="counted", kind="input"),
            sample("patchbay_tokens_total", provider="counted", kind="output"),
            sample("patchbay_charged_microusd_total", provider="counted"),
            sample("patchbay_request_duration_seconds_count", operation="chat.completions"),
        ]

    before = numbers()
    rig.serve(route(target("broken"), target("counted")))
    rig.upstreams.by_provider(broken=failure)
    for _ in range(2):
        await rig.chat()
    rig.upstreams.by_provider(broken=failure, counted=failure)
    await rig.chat()
    grown = [now - then for now, then in zip(numbers(), before, strict=True)]
    assert grown == [2, 1, 2, 3, 14, 6, 26, 3]
    assert sample("patchbay_calls_in_flight") == 0
