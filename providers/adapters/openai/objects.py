"""Reads the whole answers of OpenAI's other operations: verdicts on texts, and images. They are
passed on as they came, but for what OpenAI's SDKs would miss in a service's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from providers import amounts
from providers.adapter import StreamFault
from providers.adapters.openai.outcome import error_of, failure
from providers.call import Answer, Usage
from providers.openai_wire import BYTES_PER_TOKEN
from providers.whole import WholeMeter, tokens_told


class ModerationMeter(WholeMeter):
    def _read(self, document: Any, body: bytes) -> Answer:
        refuse_blocked(document)
        results = document["results"]
        flagged = [any(each["categories"].values()) for each in results]
        if not results or not all("category_scores" in each for each in results):
            raise ValueError("no verdict")
        self.usage = tokens_told(document.get("usage")) or self._likely()
        if all("flagged" in each for each in results):
            return Answer(body)
        named = [
            {**each, "flagged": told} for each, told in zip(results, flagged, strict=True)
        ]  # Mistral says by category only
        return Answer(orjson.dumps({**document, "results": named}))

    def _likely(self) -> Usage:
        most = amounts.of_moderations(self._call)
        return most._replace(input_tokens=-(-most.input_tokens // BYTES_PER_TOKEN))


class ImagesMeter(WholeMeter):
    def _read(self, document: Any, body: bytes) -> Answer:
        refuse_blocked(document)
        images = document["data"]
        if not images or not all(each.get("url") or each.get("b64_json") for each in images):
            raise ValueError("no images")
        units = len(images) * amounts.units_of_image(self._call.params)
        self.usage = (tokens_told(document.get("usage")) or Usage())._replace(units=units)
        if document.get("created"):
            return Answer(body)
        return Answer(orjson.dumps({**document, "created": int(time.time())}))


def refuse_blocked(document: Mapping[str, Any]) -> None:
    """A prompt that was found indecent is the caller's fault; there is no answer to make of it
    as there is of a chat's."""
    if error := error_of(document):
        raise StreamFault(failure({**error, "code": None}, 400))
