"""Questions that are nearly the same: who is served another's answer, and who never is."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from gateway import semantic
from providers.call import UpstreamRequest
from providers.sandbox.vectors import as_base64, vector
from tenants.keys import Mode
from tests.gateway.unit.rig import FOREVER, Client, Reply, Rig, chat, failure, route, stream, target
from tests.gateway.unit.rig import event as chunk
from tests.loops import eventually, on_loop

RESET = "How do I reset my password?"
RESET_TOO = "how can I reset my password"
FRANCE, FRANCE_TOO = "What is the capital of France?", "What's the capital of France"
SAID, NEAR = "x-patchbay-cache", "x-patchbay-cache-similarity"


def served(rig: Rig, cache: dict[str, Any] | None = None, **semantic: Any) -> None:
    """A chat route that compares questions by the route `emb`, and checks none behind."""
    rules = {"route": "emb", "threshold": 0.9, "verify": 0, **semantic}
    rig.serve(
        route(
            target("lab", capabilities=frozenset({"tools", "vision"})),
            cache={"ttl": 300, **(cache or {}), "semantic": rules},
        ),
        route(target("vec", "emb-1", operation="embeddings"), name="emb", cache={"ttl": 300}),
    )


class Lab:
    """Numbers its answers, and makes vectors as the sandbox does. `dimensions` may change."""

    def __init__(self, rig: Rig) -> None:
        self.asked: list[str] = []
        self.embedded: list[list[str]] = []
        self.dimensions = 256
        self.model = "emb-1"
        self.vectors: Callable[[], Reply | Exception] | None = None
        self.answer: Callable[[int], Reply] = lambda number: chat(f"answer {number}")
        rig.upstreams.script = self.script

    def script(self, request: UpstreamRequest) -> Reply | Exception:
        document = json.loads(request.body or b"{}")
        if not request.url.endswith("/embeddings"):
            self.asked.append(document["messages"][-1]["content"])
            return self.answer(len(self.asked))
        self.embedded.append(document["input"])
        if self.vectors is not None:
            return self.vectors()
        made = [vector(self.model, text, self.dimensions) for text in document["input"]]
        return vectors(*made, model=self.model)


def vectors(*made: Any, model: str = "emb-1") -> Reply:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": as_base64(each) if isinstance(each, list) else each,
        }
        for index, each in enumerate(made)
    ]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    body = {"object": "list", "data": data, "model": model, "usage": usage}
    return Reply([json.dumps(body).encode()])


@pytest.fixture
def lab(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A vector comes in time, also on a machine that does something else for a while."""
    monkeypatch.setattr(semantic, "PATIENCE", 10.0)
    served(rig)
    return Lab(rig)


async def ask(rig: Rig, text: Any, **more: Any) -> Client:
    return await rig.chat(
        messages=[*more.pop("before", ()), {"role": "user", "content": text}],
        **{"temperature": 0, **more},
    )


def found(*calls: Client) -> list[str]:
    return [call.headers[SAID] for call in calls]


@on_loop
async def test_a_question_in_other_words_has_the_answer_and_says_how_near_it_is(
    rig: Rig, lab: Lab
) -> None:
    first, second = await ask(rig, RESET), await ask(rig, RESET_TOO)
    assert found(first, second) == ["miss", "hit"]
    assert second.json["choices"] == first.json["choices"]
    both = [vector("emb-1", text, 256) for text in (RESET, RESET_TOO)]
    cosine = sum(a * b for a, b in zip(*both, strict=True))
    assert math.isclose(float(second.headers[NEAR]), cosine, abs_tol=0.0006)
    assert NEAR not in first.headers
    assert lab.asked == [RESET]
    rows = [final.record for final in rig.journal.finals]
    assert [(row.operation, row.cache, row.provider) for row in rows] == [
        ("embeddings", "", "vec"),
        ("chat.completions", "", "lab"),
        ("embeddings", "", "vec"),
        ("chat.completions", "hit", "lab"),
    ]
    assert rows[2].cost > 0 and rows[2].tenant_id == 1 and rows[2].input_tokens == 5
    assert rows[3].charge == 0 and second.rows_at_the_end == 4
    scores = rig.gateway.cache.questions.scores["m"]
    assert (scores.hits, scores.misses, scores.failed) == (1, 1, 0)


@on_loop
async def test_an_equal_question_costs_no_embedding_and_is_not_called_near(
    rig: Rig, lab: Lab
) -> None:
    await ask(rig, RESET)
    again = await ask(rig, RESET)
    assert found(again) == ["hit"] and NEAR not in again.headers
    assert len(lab.embedded) == 1 and len(rig.journal.finals) == 3


@on_loop
async def test_a_route_that_does_not_ask_for_it_makes_no_vectors(rig: Rig, lab: Lab) -> None:
    rig.serve(
        route(target("lab"), cache={"ttl": 300}),
        route(target("vec", "emb-1", operation="embeddings"), name="emb"),
    )
    assert found(await ask(rig, RESET), await ask(rig, RESET_TOO)) == ["miss", "miss"]
    assert lab.embedded == []
    served(rig)
    chance = await ask(rig, RESET, temperature=1)
    assert found(chance) == ["bypass"] and lab.embedded == []


@on_loop
async def test_streams_and_whole_answers_are_found_alike(rig: Rig, lab: Lab) -> None:
    lab.answer = lambda number: stream()
    first = await ask(rig, RESET, stream=True)
    whole = await ask(rig, RESET_TOO)
    assert found(first, whole) == ["miss", "hit"]
    assert whole.json["choices"][0]["message"]["content"] == first.text
    streamed = await ask(rig, "How would I reset my password", stream=True)
    assert found(streamed) == ["hit"] and streamed.body == first.body and NEAR in streamed.headers


EARLIER = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "other",
    [
        {"before": [{"role": "system", "content": "Be brief."}]},
        {"before": EARLIER},
        {"seed": 1},
        {"top_p": 0.5},
        {"max_tokens": 9},
        {"tools": [TOOL]},
        {"user": "someone"},
        {"response_format": {"type": "json_object"}},
        {"headers": {"X-Patchbay-Cache-Control": "exact"}},
        {"headers": {"X-Patchbay-Cache-Control": "no-cache"}},
    ],
    ids=str,
)
@on_loop
async def test_all_but_the_last_question_must_be_equal(
    rig: Rig, lab: Lab, other: dict[str, Any]
) -> None:
    await ask(rig, RESET)
    assert found(await ask(rig, RESET_TOO, **dict(other))) == ["miss"]
    assert found(await ask(rig, RESET_TOO)) == ["hit"]


@on_loop
async def test_turns_before_are_compared_as_they_are(rig: Rig, lab: Lab) -> None:
    await ask(rig, RESET, before=EARLIER)
    hit = await ask(rig, RESET_TOO, before=EARLIER)
    assert found(hit) == ["hit"] and NEAR in hit.headers
    changed = [EARLIER[0], {"role": "assistant", "content": "hello!"}]
    assert found(await ask(rig, RESET_TOO, before=changed)) == ["miss"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the price of AAPL stock", "What is the price of MSFT stock"),
        ("Is ibuprofen safe for old dogs to eat", "Is ibuprofen not safe for old dogs to eat"),
        ("Who won the world cup final in 2023", "Who won the world cup final in 2024"),
        ("book flights from paris to london", "book flights from london to paris"),
    ],
)
@on_loop
async def test_a_small_word_that_changes_everything_is_no_hit_however_near(
    rig: Rig, lab: Lab, one: str, other: str
) -> None:
    served(rig, threshold=0.5)
    await ask(rig, one)
    second = await ask(rig, other)
    assert found(second) == ["miss"] and lab.asked == [one, other]


@on_loop
async def test_no_tenant_and_no_mode_is_served_anothers(rig: Rig, lab: Lab) -> None:
    lab.answer = lambda number: chat(f"canary-{number}")
    others = [rig.callers.add(tenant=2), rig.callers.add(mode=Mode.TEST)]
    await ask(rig, RESET)
    for key in others:
        answer = await ask(
            rig, RESET_TOO, key=key, headers={"X-Patchbay-Cache-Control": "max-age=60"}
        )
        assert found(answer) == ["miss"] and b"canary-1" not in answer.body
    own = await ask(rig, "How would I reset my password", key=others[0])
    assert found(own) == ["hit"] and b"canary-2" in own.body
    served(rig, {"public": True})  # as no file may say it: it would be everybody's
    assert found(await ask(rig, FRANCE), await ask(rig, FRANCE_TOO)) == ["miss", "miss"]


@on_loop
async def test_what_was_forgotten_or_is_too_old_is_not_served(rig: Rig, lab: Lab) -> None:
    await ask(rig, RESET)
    await rig.gateway.cache.invalidate(["route:m"])
    assert found(await ask(rig, RESET_TOO)) == ["miss"]
    assert found(await ask(rig, "How would I reset my password")) == ["hit"]
    rig.clock.advance(100)
    late = {"X-Patchbay-Cache-Control": "max-age=60"}
    assert found(await ask(rig, "How could I reset my password", headers=late)) == ["miss"]
    rig.clock.advance(301)
    assert found(await ask(rig, "How should I reset my password")) == ["miss"]
    rig.gateway.cache.memory.clear()
    known = len(rig.gateway.cache.questions)
    assert found(await ask(rig, "How shall I reset my password")) == ["miss"]
    assert len(rig.gateway.cache.questions) <= known, "what led nowhere is forgotten"
    await rig.gateway.cache.invalidate_all()
    assert len(rig.gateway.cache.questions) == 0
    assert rig.gateway.cache.questions.size == 0


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: failure(500),
        lambda: failure(400),
        lambda: ConnectionError("down"),
        lambda: Reply([b"no json"]),
        lambda: vectors([math.nan] * 256),
        lambda: vectors([0.0] * 256),
        lambda: vectors("?not base64?"),
        lambda: vectors("AAA="),
        vectors,
    ],
)
@on_loop
async def test_without_a_vector_it_is_a_plain_miss(
    rig: Rig, lab: Lab, trouble: Callable[[], Reply | Exception]
) -> None:
    await ask(rig, RESET)
    lab.vectors = trouble
    answer = await ask(rig, RESET_TOO)
    assert (answer.status, found(answer)) == (200, ["miss"])
    assert rig.gateway.cache.questions.scores["m"].failed == 1


@on_loop
async def test_an_embeddings_route_that_is_not_there_is_a_plain_miss(rig: Rig, lab: Lab) -> None:
    served(rig, route="nowhere")
    answers = [await ask(rig, RESET), await ask(rig, RESET_TOO)]
    assert found(*answers) == ["miss", "miss"] and lab.embedded == []
    rig.key = rig.callers.add(scopes=frozenset({"chat.completions"}))
    served(rig)
    assert found(await ask(rig, FRANCE), await ask(rig, FRANCE_TOO)) == ["miss", "miss"]
    assert lab.embedded == []


@on_loop
async def test_a_vector_that_does_not_come_holds_the_call_up_only_so_long(
    rig: Rig, lab: Lab
) -> None:
    lab.vectors = lambda: Reply([FOREVER])
    answer = await ask(rig, RESET, headers={"X-Patchbay-Deadline-Ms": "300"})
    assert (answer.status, found(answer)) == (200, ["miss"])
    await eventually(lambda: not rig.gateway.cache.behind)
    codes = {f.record.operation: f.record.code for f in rig.journal.finals}
    assert codes == {"embeddings": "deadline_exceeded", "chat.completions": "ok"}


@on_loop
async def test_vectors_of_another_model_are_another_space(rig: Rig, lab: Lab) -> None:
    await ask(rig, RESET)
    lab.dimensions = 64
    assert found(await ask(rig, RESET_TOO)) == ["miss"]
    lab.model = "emb-2"
    assert found(await ask(rig, "How would I reset my password")) == ["miss"]
    assert found(await ask(rig, "how should I reset my password?")) == ["hit"]


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "reset my password " * 500,
        "北京天气怎么样",
        "\u202e\ufeffreset\u0000 my pass\u200bword",
        [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        [{"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}],
    ],
)
@on_loop
async def test_what_cannot_be_compared_is_answered_all_the_same(
    rig: Rig, lab: Lab, text: Any
) -> None:
    await ask(rig, RESET)
    answer = await ask(rig, text)
    assert (answer.status, found(answer)) == (200, ["miss"])


@on_loop
async def test_a_text_in_one_part_is_compared_with_others_in_one_part(rig: Rig, lab: Lab) -> None:
    def part(text: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text}]

    await ask(rig, part(RESET))
    assert found(await ask(rig, RESET_TOO)) == ["miss"]
    assert found(await ask(rig, part("How would I reset my password"))) == ["hit"]


@pytest.mark.parametrize(("second", "agreed"), [("answer 1", 1), ("Something else.", 0)])
@on_loop
async def test_some_hits_are_checked_behind_so_that_false_ones_show(
    rig: Rig, lab: Lab, second: str, agreed: int
) -> None:
    served(rig, verify=1)
    said = iter(["answer 1", second])
    lab.answer = lambda number: chat(next(said))
    await ask(rig, RESET)
    hit = await ask(rig, RESET_TOO)
    assert found(hit) == ["hit"]
    await eventually(lambda: not rig.gateway.cache.behind)
    assert lab.asked == [RESET, RESET_TOO]
    scores = rig.gateway.cache.questions.scores["m"]
    assert (scores.hits, scores.agreed, scores.differed) == (1, agreed, 1 - agreed)
    rows = [f.record for f in rig.journal.finals if f.record.operation == "chat.completions"]
    assert [row.cache for row in rows] == ["", "hit", ""] and rows[2].cost > 0
    own = await ask(rig, RESET_TOO)
    assert found(own) == ["hit"] and NEAR not in own.headers
    assert own.json["choices"][0]["message"]["content"] == second


@on_loop
async def test_a_check_that_fails_counts_for_nothing(rig: Rig, lab: Lab) -> None:
    served(rig, verify=1)
    await ask(rig, RESET)
    lab.answer = lambda number: failure(500)
    assert found(await ask(rig, RESET_TOO)) == ["hit"]
    await eventually(lambda: not rig.gateway.cache.behind)
    scores = rig.gateway.cache.questions.scores["m"]
    assert scores.agreed == scores.differed == 0


@on_loop
async def test_equal_questions_at_once_ask_the_provider_once(rig: Rig, lab: Lab) -> None:
    await ask(rig, RESET)
    at_once = await asyncio.gather(*[ask(rig, RESET_TOO) for _ in range(5)])
    assert found(*at_once) == ["hit"] * 5 and lab.asked == [RESET]
    exact = {"X-Patchbay-Cache-Control": "exact"}
    mixed = await asyncio.gather(
        *[ask(rig, "How would I reset my password", headers=h) for h in ({}, exact, {}, exact)]
    )
    for answer in (mixed[1], mixed[3]):
        assert NEAR not in answer.headers
        assert answer.json["choices"][0]["message"]["content"] == "answer 2"


@on_loop
async def test_a_stream_that_broke_off_is_nobodys_answer(rig: Rig, lab: Lab) -> None:
    lab.answer = lambda number: stream(chunk("half"), ConnectionError("gone"))
    await ask(rig, RESET, stream=True)
    lab.answer = lambda number: chat("whole")
    other = await ask(rig, RESET_TOO)
    assert found(other) == ["miss"] and b"whole" in other.body


@on_loop
async def test_a_client_that_leaves_meanwhile_leaves_a_true_row_of_the_vector(
    rig: Rig, lab: Lab
) -> None:
    gate, begun = asyncio.Event(), asyncio.Event()
    send = rig.upstreams.send

    async def slow(request: UpstreamRequest, *rest: Any, **more: Any) -> Reply:
        if request.url.endswith("/embeddings"):
            begun.set()
            await gate.wait()
        return await send(request, *rest, **more)

    rig.upstreams.send = slow  # type: ignore[method-assign]
    body = {"model": "m", "temperature": 0, "messages": [{"role": "user", "content": RESET}]}
    client = rig.client(json.dumps(body).encode())
    call = asyncio.create_task(rig.run(client))
    await begun.wait()
    client.gone.set()
    await call
    assert client.messages == [] and lab.asked == []
    gate.set()
    await eventually(lambda: rig.journal.finals)
    assert (rig.final.record.operation, rig.final.record.code) == ("embeddings", "ok")
