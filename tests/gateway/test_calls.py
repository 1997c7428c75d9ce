"""Calls on the data path from outside: who answers, what the headers say, what is billed."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import http_sf
import httpx2
import pytest

from tests.patience import eventually, promised, seconds_until
from tests.services.system import System

CHAT = "/api/v1/chat/completions"
ASK = {"model": "lab-chat", "messages": [{"role": "user", "content": "hello there, gateway"}]}


@pytest.fixture
def client(system: System) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {system.visitor()}"}
    with httpx2.Client(base_url=system.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def live(system: System) -> Iterator[httpx2.Client]:
    headers = {"X-API-Key": system.keys["acme/live"]}
    with httpx2.Client(base_url=system.url, headers=headers, timeout=20) as client:
        yield client


def test_a_live_call_is_billed_once_and_to_the_digit(live: httpx2.Client, system: System) -> None:
    answer = live.post(CHAT, json=ASK)
    usage = answer.json()["usage"]
    row = system.record(answer.headers["x-request-id"])
    cost = usage["prompt_tokens"] * 1 + usage["completion_tokens"] * 2  # µUSD a token
    assert row["charge"] == row["cost"] == cost == int(answer.headers["x-patchbay-cost-microusd"])
    assert row["input_tokens"] == usage["prompt_tokens"]
    assert row["output_tokens"] == usage["completion_tokens"]
    assert (row["provider"], row["model"], row["route"]) == ("lab", "gpt-x", "lab-chat")
    assert (row["status"], row["code"], row["mode"], row["estimate"]) == (200, "ok", "live", "")


def test_answers_are_compressed_as_the_client_asks(live: httpx2.Client) -> None:
    long = {**ASK, "messages": [{"role": "user", "content": "hello " * 400}]}
    plain = live.post(CHAT, json=long, headers={"Accept-Encoding": "identity"})
    small = live.post(CHAT, json=long, headers={"Accept-Encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 3
    assert small.json()["choices"] == plain.json()["choices"]


def test_a_list_that_is_known_already_is_not_sent_again(live: httpx2.Client) -> None:
    for path in ("/api/v1/models", "/api/v1/catalogue"):
        first = live.get(path)
        again = live.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]


def test_a_test_call_costs_nothing(client: httpx2.Client, system: System) -> None:
    answer = client.post(CHAT, json=ASK)
    row = system.record(answer.headers["x-request-id"])
    assert (row["charge"], row["mode"]) == (0, "test")
    assert row["output_tokens"] > 0


def test_the_headers_of_the_contract(client: httpx2.Client, system: System) -> None:
    headers = {"Authorization": f"Bearer {system.keys['frugal/headers']}"}
    answer = client.post(CHAT, json=ASK, headers=headers)
    policies = http_sf.parse(answer.headers["ratelimit-policy"].encode(), tltype="list")
    states = http_sf.parse(answer.headers["ratelimit"].encode(), tltype="list")
    assert policies == [("key-minute", {"q": 3, "w": 60})]
    assert states[0][0] == "key-minute"
    assert states[0][1]["r"] == 2
    assert 0 < states[0][1]["t"] <= 62
    assert answer.headers["x-ratelimit-limit"] == "3"
    assert answer.headers["x-ratelimit-remaining"] == "2"
    assert answer.headers["x-patchbay-provider"] == "lab"
    assert answer.headers["x-patchbay-attempts"] == "1"
    assert answer.headers["x-patchbay-cache"] == "bypass"
    assert "gateway;dur=" in answer.headers["server-timing"]
    assert answer.headers["x-request-id"][14] == "7"


@pytest.mark.parametrize(
    "path", ["/api/chat", "/api/chat/completions", "/api/v1/ai/chat", "/api/v1/chat/completions"]
)
def test_aliases(client: httpx2.Client, path: str) -> None:
    assert client.post(path, json=ASK).status_code == 200


def test_a_failing_provider_is_passed_over(client: httpx2.Client, system: System) -> None:
    fault = {"x-sandbox-fault": "provider=lab;status=500"}
    answer = client.post(CHAT, json=ASK, headers=fault)
    assert answer.status_code == 200
    assert answer.headers["x-patchbay-provider"] == "lab2"
    assert answer.headers["x-patchbay-attempts"] == "2"
    rows = system.rows(
        "SELECT provider, verdict, status FROM usage_attempt WHERE request_id = ? ORDER BY number",
        answer.headers["x-request-id"],
    )
    assert [(row["provider"], row["verdict"]) for row in rows] == [
        ("lab", "upstream_unavailable"),
        ("lab2", "ok"),
    ]


@pytest.mark.parametrize(
    "fault",
    ["status=429;retry_after=2", "malformed_json", "empty_body", "html", "truncated_json"],
)
def test_every_provider_fault_falls_over(client: httpx2.Client, fault: str) -> None:
    answer = client.post(CHAT, json=ASK, headers={"x-sandbox-fault": f"provider=lab;{fault}"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-patchbay-provider"] != "lab"


@pytest.mark.parametrize("fault", ["status=500", "malformed_sse", "error_event", "cut_after=0"])
def test_a_stream_falls_over_before_its_first_event(client: httpx2.Client, fault: str) -> None:
    answer = client.post(
        CHAT,
        json={**ASK, "stream": True},
        headers={"x-sandbox-fault": f"provider=lab;{fault}"},
    )
    assert answer.status_code == 200
    assert answer.headers["x-patchbay-provider"] != "lab"
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_cut_stream_never_looks_like_success(client: httpx2.Client, system: System) -> None:
    answer = client.post(
        CHAT,
        json={**ASK, "model": "lab/gpt-x", "stream": True},
        headers={"x-sandbox-fault": "cut_after=3"},
    )
    assert "[DONE]" not in answer.text
    last = json.loads(answer.text.strip().rsplit("data: ", 1)[1])
    assert last["error"]["code"] == "upstream_rejected"
    row = system.record(answer.headers["x-request-id"])
    assert (row["code"], row["estimate"]) == ("stream_cut", "cut")
    assert row["output_tokens"] > 0


def test_a_silent_provider_runs_into_the_deadline(client: httpx2.Client) -> None:
    started = time.monotonic()
    answer = client.post(
        CHAT,
        json=ASK,
        headers={"x-sandbox-fault": "no_first_byte", "x-patchbay-deadline-ms": "300"},
    )
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert time.monotonic() - started < 2


def test_a_stream_that_stalls_runs_into_the_deadline(client: httpx2.Client, system: System) -> None:
    answer = client.post(
        CHAT,
        json={**ASK, "model": "lab/gpt-x", "stream": True},
        headers={"x-sandbox-fault": "stall_after=2", "x-patchbay-deadline-ms": "500"},
    )
    assert "deadline_exceeded" in answer.text
    assert "[DONE]" not in answer.text
    assert system.record(answer.headers["x-request-id"])["code"] == "stream_cut"


SAY = {"model": "lab/voice", "voice": "alloy", "input": "four words of text"}


def test_sound_is_billed_by_the_character(live: httpx2.Client, system: System) -> None:
    with live.stream("POST", "/api/v1/audio/speech", json=SAY) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert len(b"".join(answer.iter_bytes())) > 10_000
    row = system.record(answer.headers["x-request-id"])
    assert (row["units"], row["code"], row["estimate"]) == (18, "ok", "")
    told = int(answer.headers["x-patchbay-cost-microusd"])
    assert row["charge"] == row["cost"] == told == 18 * 2000


def test_sound_that_breaks_off_is_no_whole_answer(client: httpx2.Client, system: System) -> None:
    fault = {"x-sandbox-fault": "cut_after=1"}
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        client.stream("POST", "/api/v1/audio/speech", json=SAY, headers=fault) as answer,
    ):
        answer.read()
    assert answer.status_code == 200
    assert system.record(answer.headers["x-request-id"])["code"] == "stream_cut"


def test_a_recording_is_billed_by_the_second(live: httpx2.Client, system: System) -> None:
    answer = live.post(
        "/api/v1/audio/transcriptions",
        data={"model": "lab/ear", "response_format": "text"},
        files={"file": ("a.wav", bytes(24_000), "audio/wav")},
    )
    assert answer.text.startswith("the sandbox heard ")
    row = system.record(answer.headers["x-request-id"])
    assert (row["units"], row["cost"]) == (3, 3 * 3000)
    assert row["bytes"] > 24_000


def test_hanging_up_ends_the_upstream_stream_and_bills_what_came(system: System) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=10)
    connection.request(
        "POST",
        CHAT,
        json.dumps({**ASK, "model": "lab/gpt-x", "stream": True}),
        {
            "Authorization": f"Bearer {system.visitor()}",
            "Content-Type": "application/json",
            "x-sandbox-fault": "endless",
            "x-sandbox-pace-ms": "20",
        },
    )
    answer = connection.getresponse()
    request_id = answer.headers["x-request-id"]
    for _ in range(10):
        answer.readline()
    left = time.time()
    answer.close()
    connection.close()
    rows = eventually(
        lambda: system.rows("SELECT * FROM usage_usagerecord WHERE request_id = ?", request_id)
    )
    assert (rows[0]["status"], rows[0]["code"]) == (499, "hung_up")
    assert rows[0]["estimate"] == "hung_up"
    assert rows[0]["output_tokens"] > 0
    line = eventually(lambda: _journalled(system, request_id))
    assert line["hung_up"]
    ended = dt.datetime.fromisoformat(line["ended_at"]).timestamp()
    assert ended - left < 0.5
    assert system.rows("SELECT * FROM usage_opencall WHERE request_id = ?", request_id) == []


def _journalled(system: System, request_id: str) -> dict[str, Any] | None:
    """The sandbox's line on a call; it is written a moment after the client saw the end."""
    whole = system.journal.read_text().rpartition("\n")[0]  # the last may be half-written
    lines = [json.loads(line) for line in whole.splitlines()]
    return next((line for line in lines if line["request_id"] == request_id), None)


DATA = {
    "/api/v1/finance/quote?symbol=AAPL": ("symbol", "AAPL"),
    "/api/v1/finance/fx_rate?base=EUR&quote=SEK": ("quote", "SEK"),
    "/api/v1/weather/current?lat=59.33&lon=18.07": ("temperature_c", None),
    "/api/v1/medical/drug_label?q=ibuprofen": ("generic_name", None),
    "/api/v1/geo/geocode?q=Stockholm": ("label", None),
}


@pytest.mark.parametrize("path", DATA)
def test_data_operations_and_their_fallback(client: httpx2.Client, path: str) -> None:
    first = client.get(path)
    assert first.status_code == 200, first.text
    body = first.json()
    field, value = DATA[path]
    item = body["data"][0] if isinstance(body["data"], list) else body["data"]
    assert field in item
    assert value is None or item[field] == value
    meta = body["meta"]
    assert meta["request_id"] == first.headers["x-request-id"]
    assert meta["provider"] == first.headers["x-patchbay-provider"]
    assert [attempt["outcome"] for attempt in meta["attempts"]] == ["ok"]
    assert meta["attribution"]

    fault = {"x-sandbox-fault": f"provider={meta['provider']};status=503"}
    second = client.get(path, headers=fault).json()
    assert second["meta"]["provider"] != meta["provider"]
    outcomes = [(a["provider"], a["outcome"]) for a in second["meta"]["attempts"]]
    assert outcomes[0] == (meta["provider"], "upstream_unavailable")
    assert outcomes[-1] == (second["meta"]["provider"], "ok")
    other = second["data"][0] if isinstance(second["data"], list) else second["data"]
    assert field in other


def test_one_provider_may_be_asked_for_and_fallback_forbidden(client: httpx2.Client) -> None:
    path = "/api/v1/finance/fx_rate?base=EUR&quote=SEK"
    asked = client.get(f"{path}&provider=open-er-api").json()
    assert asked["meta"]["provider"] == "open-er-api"
    fault = {"x-sandbox-fault": "status=503"}
    refused = client.get(f"{path}&fallback=false", headers=fault)
    assert refused.status_code == 503
    assert len(refused.json()["attempts"]) == 1
    unknown = client.get(f"{path}&provider=nobody")
    assert unknown.status_code == 400


def test_a_failing_key_never_reaches_the_other_tenant(system: System) -> None:
    """Scripted failures of one tenant's test calls open no breaker for another's."""
    fault = {"x-sandbox-fault": "status=500"}
    answers = []
    for name in ["globex/test"] * 8 + ["acme/test"]:
        headers = {"X-API-Key": system.keys[name], **(fault if name == "globex/test" else {})}
        answers.append(httpx2.post(system.url + CHAT, json=ASK, headers=headers, timeout=20))
    assert answers[-2].status_code == 503
    assert answers[-2].json()["error"]["code"] == "circuit_open"
    assert "retry-after" in answers[-2].headers
    assert answers[-1].status_code == 200


def test_only_allowed_addresses(system: System) -> None:
    answer = httpx2.post(
        system.url + CHAT, json=ASK, headers={"X-API-Key": system.keys["acme/fenced"]}
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "ip_not_allowed"


def test_a_private_upstream_is_no_upstream_once_staff_forbid_it(
    live: httpx2.Client, system: System
) -> None:
    body = {**ASK, "model": "walled/gpt-x"}
    assert live.post(CHAT, json=body).status_code == 200
    system.manage("shell", "-c", _FENCE)
    refused = eventually(lambda: _refused(live.post(CHAT, json=body)), 1.5)
    assert refused.json()["error"]["code"] == "provider_unavailable"


def _refused(answer: httpx2.Response) -> httpx2.Response | None:
    return answer if answer.status_code == 503 else None


_FENCE = """
from providers.models import Provider
Provider.objects.filter(slug="walled").update(allow_private_network=False)
"""


def test_the_log_holds_a_line_and_no_secret(client: httpx2.Client, system: System) -> None:
    answer = client.post(CHAT, json=ASK)
    request_id = answer.headers["x-request-id"]
    log = system.folder / "gateway.log"
    line = eventually(
        lambda: next((x for x in log.read_text().splitlines() if request_id in x), None)
    )
    event = json.loads(line)
    assert (event["event"], event["status"], event["provider"]) == ("call", 200, "lab")
    text = log.read_text()
    assert not any(key in text for key in system.keys.values())
    assert "sk-lab" not in text


def test_probes_and_metrics(client: httpx2.Client, system: System) -> None:
    assert httpx2.get(f"{system.url}/livez").json() == {"status": "ok"}
    assert httpx2.get(f"{system.url}/readyz").status_code == 200
    assert httpx2.get(f"{system.url}/startupz").status_code == 200
    client.post(CHAT, json=ASK)
    metrics = httpx2.get(f"{system.url}/api/metrics").text
    for name in ("requests_total", "request_duration_seconds", "attempts_total", "tokens_total"):
        assert f"patchbay_{name}" in metrics


def test_a_revoked_key_is_out_within_a_second(system: System) -> None:
    def status(key: str) -> int:
        return httpx2.post(system.url + CHAT, json=ASK, headers={"X-API-Key": key}).status_code

    def once() -> float:
        key = system.visitor()
        assert status(key) == 200
        system.manage("shell", "-c", _REVOKE.format(tenant=system.tenant_of(key)))
        return seconds_until(lambda: status(key) == 401)

    promised(once)


_REVOKE = """
from tenants.models import ApiKey
from tenants.services import revoke_key
revoke_key(key=ApiKey.objects.get(tenant__slug="{tenant}"))
"""


def test_a_provider_that_wants_a_token_gets_one_first(client: httpx2.Client) -> None:
    for words in ("one", "two"):
        answer = client.get("/api/v1/music/search", params={"q": words, "provider": "spotify"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["title"] == words
        assert answer.json()["meta"]["provider"] == "spotify"


def test_signed_calls_and_binary_streams(client: httpx2.Client, system: System) -> None:
    ask = {**ASK, "model": "bedrock/amazon.nova-lite-v1:0"}
    whole = client.post(CHAT, json=ask)
    said = "You said: hello there, gateway"
    assert whole.json()["choices"][0]["message"]["content"] == said
    with client.stream("POST", CHAT, json={**ask, "stream": True}) as answer:
        events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content") or "" for delta in deltas) == said
    rows = [system.record(each.headers["x-request-id"]) for each in (whole, answer)]
    assert rows[0]["output_tokens"] == rows[1]["output_tokens"] > 0
    assert {row["estimate"] for row in rows} == {""}
