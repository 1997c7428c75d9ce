"""The cache in a whole system: who is served from it, and who has it forgotten."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from tests.services.system import System

ASK = {
    "model": "lab-plain",
    "temperature": 0,
    "messages": [{"role": "user", "content": "asked in tests/gateway/test_cache.py"}],
}


def test_what_is_forgotten_is_asked_for_again_and_nothing_else(system: System) -> None:
    def post(key: str, path: str, body: Any, **headers: str) -> httpx2.Response:
        bearer = {"Authorization": f"Bearer {system.keys[key]}", **headers}
        return httpx2.post(f"{system.url}{path}", json=body, headers=bearer, timeout=20)

    def found(key: str) -> str:
        tags = {"X-Patchbay-Cache-Tags": "nightly"}
        answer = post(key, "/api/v1/chat/completions", ASK, **tags)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["x-patchbay-cache"])

    acme, globex = "acme/live", "globex/live"
    assert [found(key) for key in (acme, acme, globex, globex)] == ["miss", "hit"] * 2
    staffs = post("acme/operator", "/internal/v1/cache/invalidate", {"tag": "client:acme:nightly"})
    assert staffs.json()["everywhere"] is True, staffs.text
    assert [found(key) for key in (acme, acme, globex)] == ["miss", "hit", "hit"]
    own = post("acme/cache", "/api/v1/cache/invalidate", {"tag": "nightly"})
    assert own.status_code == 200, own.text
    assert [found(key) for key in (acme, acme, globex)] == ["miss", "hit", "hit"]
    assert post("acme/live", "/api/v1/cache/invalidate", {"tag": "nightly"}).status_code == 403

    bearer = {"Authorization": f"Bearer {system.keys['acme/operator']}"}
    url = f"{system.url}/internal/v1/cache/analytics"
    told = json.loads(system.get(url, **bearer)[1])
    here = {row["tenant"]: row["saved_here"] for row in told["tenants"]}
    assert here["acme"]["hits"] >= 3 and here["acme"]["cost_microusd"] > 0
    assert any(asked["route"] == "lab-plain" for asked in told["most_asked"])
    assert "tests/gateway" not in json.dumps(told)


def test_a_question_in_other_words_is_answered_by_the_sandboxs_own_vectors(
    system: System,
) -> None:
    def asked(key: str, text: str) -> httpx2.Response:
        headers = {
            "Authorization": f"Bearer {system.keys[key]}",
            "X-Patchbay-Cache-Control": "max-age=60",  # test mode keeps what is asked for
        }
        body = {**ASK, "model": "lab-alike", "messages": [{"role": "user", "content": text}]}
        url = f"{system.url}/api/v1/chat/completions"
        answer = httpx2.post(url, json=body, headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer

    said, near = "x-patchbay-cache", "x-patchbay-cache-similarity"
    first = asked("acme/test", "How do I reset my password in the tests?")
    second = asked("acme/test", "how can I reset my password in the tests")
    assert (first.headers[said], second.headers[said]) == ("miss", "hit")
    assert 0.9 < float(second.headers[near]) < 1 and near not in first.headers
    assert second.json()["choices"] == first.json()["choices"]
    for key, text in (
        ("globex/test", "how can I reset my password in the tests"),
        ("acme/test", "how can I not reset my password in the tests"),
    ):
        assert asked(key, text).headers[said] == "miss"
