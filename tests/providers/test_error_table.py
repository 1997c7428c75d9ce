"""One table of real failures (errors.yaml): how each is judged, and what follows from it."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import time_machine
import yaml

from providers.adapter import Adapter, StreamFault
from providers.call import Call, Outcome, Upstream, Verdict
from providers.catalogue.documents import FOLDER, read_document
from providers.dialects import DIALECTS, adapter_for

ROWS: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("errors.yaml").read_text())
NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)
CHAT = Call("chat.completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]})
FOLLOWS = ("retryable", "fallback", "breaker", "billable")


@cache
def spoken(of: str) -> tuple[Adapter, Call]:
    """The adapter of a dialect or a data provider, and a call that it takes."""
    if of in DIALECTS:
        return adapter_for(of), CHAT
    document = dict(read_document(FOLDER / f"{of}.yaml").document)
    asked = document["verification"]
    return adapter_for("manifest", document), Call(asked["operation"], dict(asked["params"]))


def judged(row: dict[str, Any]) -> Outcome:
    """As the gateway comes to it: by the status and the body, or else by reading the answer."""
    adapter, call = spoken(row["of"])
    body = row["text"].encode() if "text" in row else orjson.dumps(row["body"])
    headers = {"content-type": "application/json"} | row.get("headers", {})
    outcome = adapter.outcome(row["status"], headers, body)
    if not outcome.is_answer:
        return outcome
    try:
        adapter.meter(call, Upstream(row["of"], "https://x.test", "m")).whole(outcome, body)
    except StreamFault as fault:
        return fault.outcome
    return outcome


def follows(outcome: Outcome) -> set[str]:
    truths = (
        outcome.retryable,
        outcome.falls_back,
        outcome.is_provider_fault,
        outcome.billable,
    )
    return {name for name, holds in zip(FOLLOWS, truths, strict=True) if holds}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_each_failure_is_judged_as_the_table_says(row: dict[str, Any]) -> None:
    with time_machine.travel(NOW, tick=False):
        outcome = judged(row)
    verdict, *expected = row["expect"].split()
    assert (outcome.verdict, follows(outcome)) == (verdict, set(expected))
    wait = row.get("wait")
    assert outcome.retry_after == (wait if wait is None else pytest.approx(wait))


def test_the_table_is_worth_its_name() -> None:
    assert len(ROWS) >= 100
    assert len({row["name"] for row in ROWS}) == len(ROWS)
    told = {row["expect"].split()[0] for row in ROWS}
    # By no status and no body.
    never_told = {Verdict.UNREACHABLE, Verdict.INVALID_ANSWER, Verdict.SATURATED}
    assert told == {verdict.value for verdict in set(Verdict) - never_told}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_follows_from_a_verdict_makes_sense(verdict: Verdict) -> None:
    outcome = Outcome(verdict)
    assert not (outcome.is_answer and outcome.falls_back)
    assert not outcome.retryable or outcome.falls_back
    assert not outcome.is_provider_fault or outcome.falls_back
    assert outcome.billable or not outcome.is_answer
