"""Reads embeddings in OpenAI's dialect: passed on as they came wherever OpenAI's SDKs can read
them; vectors that came as numbers though base64 was asked, or a missing count, are put right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from providers import openai_wire as wire
from providers.adapter import StreamFault
from providers.adapters.openai.outcome import error_of, failure
from providers.call import Answer, Outcome, Usage
from providers.whole import Unstreamed, bad_payload, tokens_told


class EmbeddingsMeter(Unstreamed):
    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        document = outcome.document
        if error := error_of(document):
            raise StreamFault(failure({**error, "code": None}, 400))  # a text that was blocked
        try:
            vectors = [entry["embedding"] for entry in document["data"]]
        except (LookupError, TypeError):
            raise bad_payload("The answer holds no embeddings.") from None
        if len(vectors) != self._texts():
            raise bad_payload("The answer holds another number of embeddings.")
        self.usage = tokens_told(document.get("usage"))
        self.complete = True
        repairs = self._repairs(document, vectors)
        return Answer(body=orjson.dumps({**document, **repairs}) if repairs else body)

    def feed(self, chunk: bytes) -> list[bytes]:
        raise bad_payload("Embeddings are never streamed.")

    def _texts(self) -> int:
        texts = self._call.params["input"]
        listed = isinstance(texts, list) and not isinstance(texts[0], int)
        return len(texts) if listed else 1

    def _repairs(self, document: Mapping[str, Any], vectors: list[Any]) -> dict[str, Any]:
        usage = self.usage or Usage(wire.input_estimate(self._call), estimated=True)
        packed = self._call.params.get("encoding_format") == "base64"
        packed = packed and not isinstance(vectors[0], str)
        try:
            fresh = wire.embeddings(vectors, model=self._upstream.model, usage=usage, base64=packed)
        except (TypeError, ValueError, OverflowError):
            raise bad_payload("A vector holds what is no number.") from None
        told = document.get("usage")
        needed_of_it = {"prompt_tokens", "total_tokens"}
        whole_count = self.usage and isinstance(told, Mapping) and needed_of_it <= told.keys()
        needed = {"data": packed, "usage": not whole_count}
        needed |= {name: not document.get(name) for name in ("object", "model")}
        return {name: fresh[name] for name, is_needed in needed.items() if is_needed}
