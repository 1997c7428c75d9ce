"""The official npm `openai` package against the running gateway (npm/cases.mjs runs the cases).

Without Node or its packages the tests are skipped, and say so; in CI they fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.services.system import System

NPM = Path(__file__).with_name("npm")
DIALECTS = ["lab/gpt-x", "lab2/claude-y", "lab3/gemini-z"]


def missing() -> str:
    """What the tests lack, or nothing."""
    if shutil.which("node") is None:
        return "there is no Node"
    if not (NPM / "node_modules/openai/package.json").exists():
        return "tests/sdk/npm has no packages (`make npm`)"
    return ""


def on_this_machine() -> str:
    """What is missing where that is an excuse: not in CI, which must run these tests."""
    return "" if os.environ.get("CI") else missing()


pytestmark = pytest.mark.skipif(bool(on_this_machine()), reason=on_this_machine() or "-")


class Told:
    """What the script printed, case by case."""

    def __init__(self, lines: list[str]) -> None:
        self.cases = {line["case"]: line for line in map(json.loads, lines)}

    def value(self, case: str) -> Any:
        line = self.cases[case]
        assert "error" not in line, line
        return line["value"]

    def error(self, case: str) -> dict[str, Any]:
        line = self.cases[case]
        assert "error" in line, f"{case} raised nothing"
        error: dict[str, Any] = line["error"]
        return error


@pytest.fixture(scope="module")
def told(system: System) -> Told:
    assert not missing(), missing()
    keys = {
        "chat": system.visitor(),
        "finance": system.keys["acme/finance"],
        "frugal": system.keys["frugal/test"],
    }
    done = subprocess.run(
        ["node", "cases.mjs"],
        cwd=NPM,
        env={**os.environ, "PATCHBAY_URL": system.url, "KEYS": json.dumps(keys)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Told(done.stdout.splitlines())


@pytest.mark.parametrize("model", DIALECTS)
def test_chat(told: Told, model: str) -> None:
    answer = told.value(f"chat {model}")
    assert answer["object"] == "chat.completion"
    assert "switchboard" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


@pytest.mark.parametrize("model", DIALECTS)
def test_streamed_chat_says_the_same_and_ends_with_the_usage(told: Told, model: str) -> None:
    whole, chunks = told.value(f"chat {model}"), told.value(f"stream {model}")
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert len(chunks) > 3
    assert chunks[-1]["choices"] == []
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert chunks[-1]["usage"][count] == whole["usage"][count]


def test_the_streaming_helper_joins_the_text(told: Told) -> None:
    joined = told.value("stream helper")
    assert joined["text"] == told.value("chat lab/gpt-x")["choices"][0]["message"]["content"]


@pytest.mark.parametrize("model", DIALECTS)
def test_a_streamed_response_says_the_same_as_a_whole_one(told: Told, model: str) -> None:
    whole, events = told.value(f"response {model}"), told.value(f"streamed response {model}")
    assert "switchboard" in whole["output_text"]
    pieces = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert len(pieces) > 3
    assert "".join(pieces) == whole["output_text"]
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"] == whole["usage"]


def test_the_responses_helper_adds_it_up(told: Told) -> None:
    final = told.value("response helper")
    assert final["output_text"] == told.value("response lab/gpt-x")["output_text"]


@pytest.mark.parametrize("model", DIALECTS)
def test_tool_calls_there_and_back(told: Told, model: str) -> None:
    turns = told.value(f"tools {model}")
    choice = turns["first"]["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    function = choice["message"]["tool_calls"][0]["function"]
    assert function["name"] == "get_weather"
    assert isinstance(json.loads(function["arguments"])["city"], str)
    assert turns["second"]["choices"][0]["message"]["content"]


@pytest.mark.parametrize("model", DIALECTS)
def test_streamed_tool_calls_join_to_json(told: Told, model: str) -> None:
    calls = [
        call["function"]
        for chunk in told.value(f"streamed tools {model}")
        for call in chunk["choices"][0]["delta"].get("tool_calls") or []
    ]
    assert "".join(call.get("name") or "" for call in calls) == "get_weather"
    assert "city" in json.loads("".join(call.get("arguments") or "" for call in calls))


def test_json_mode(told: Told) -> None:
    content = told.value("JSON mode")["choices"][0]["message"]["content"]
    assert isinstance(json.loads(content), dict)


def test_embeddings_as_floats_and_as_the_sdks_own_base64(told: Told) -> None:
    both = told.value("embeddings")
    assert len(both["plain"]["data"]) == 2
    for packed, plain in zip(both["packed"]["data"], both["plain"]["data"], strict=True):
        assert packed["embedding"] == pytest.approx(plain["embedding"], abs=1e-6)
    assert both["plain"]["usage"]["prompt_tokens"] > 0


def test_models(told: Told) -> None:
    listed = {model["id"] for model in told.value("models")}
    assert {"lab-chat", "gpt-x", "lab/gpt-x", "text-embedding-3-small"} <= listed
    assert told.value("model")["owned_by"] == "lab"


def test_the_sdk_finds_the_request_id(told: Told) -> None:
    assert told.value("request id")["request_id"][14] == "7"


ERRORS = {
    "wrong key": ("AuthenticationError", 401, "unauthenticated", None),
    "missing scope": ("PermissionDeniedError", 403, "insufficient_scope", None),
    "passed limit": ("RateLimitError", 429, "rate_limit_exceeded", None),
    "malformed": ("BadRequestError", 400, "invalid_request", "messages"),
    "unknown model": ("NotFoundError", 404, "not_found", "model"),
    "everything down": ("InternalServerError", 503, "provider_unavailable", None),
}


@pytest.mark.parametrize(("case", "expected"), ERRORS.items(), ids=ERRORS.keys())
def test_errors_come_out_as_their_own_classes(
    told: Told, case: str, expected: tuple[str, int, str, str | None]
) -> None:
    error = told.error(case)
    assert (error["class"], error["status"], error["code"], error["param"]) == expected
    assert error["requestId"]
    assert error["message"].startswith(f"{error['status']} ")


def test_a_passed_limit_says_how_long_to_wait(told: Told) -> None:
    assert 0 < int(told.error("passed limit")["retryAfter"]) <= 62


def test_a_cut_stream_raises(told: Told) -> None:
    error = told.error("cut stream")
    assert error["ancestry"] == ["OpenAIError", "APIError"]
    assert error["code"] == "upstream_rejected"
