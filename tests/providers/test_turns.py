"""Conversations that a client goes on with as its SDK gives them back."""

from __future__ import annotations

from typing import Any

import pytest

from providers.adapter import Unsupported
from providers.call import Call, Upstream
from providers.dialects import adapter_for

DIALECTS = ["anthropic", "bedrock", "cohere", "gemini"]
HI = {"role": "user", "content": "Hi"}


def sent(dialect: str, **answer: Any) -> bytes:
    history = [HI, {"role": "assistant", "content": "Yes", **answer}, HI]
    upstream = Upstream("lab", "https://x.example", "a-model", "key", max_output=100)
    call = Call("chat.completions", {"messages": history}, request_id="r")
    body = adapter_for(dialect).request(call, upstream).body
    assert body is not None
    return body


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_only_answers_have_is_taken_back_and_not_sent(dialect: str) -> None:
    told = {
        "annotations": [{"type": "url_citation"}],
        "citations": [{"cited_text": "secretly"}],
        "reasoning": "secretly",
        "reasoning_content": "secretly",
        "reasoning_details": [{"text": "secretly"}],
        "extra_content": {"another": {"text": "secretly"}},
        "refusal": None,
    }
    body = sent(dialect, **told)
    assert b"Yes" in body and b"secretly" not in body and b"citation" not in body


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_field_that_is_nobodys_is_refused_by_name(dialect: str) -> None:
    with pytest.raises(Unsupported) as refused:
        sent(dialect, colour="red")
    assert refused.value.param == "messages.1.colour"
