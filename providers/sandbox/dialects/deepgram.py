"""Deepgram's dialect: v1 listen."""

from __future__ import annotations

from urllib.parse import parse_qs

from providers.amounts import TRANSCRIPTIONS
from providers.sandbox.dialects import media
from providers.sandbox.dialects.dialect import Answer, Refused, Request, encoded, is_bad

_CODES = {401: "INVALID_AUTH", 402: "ASR_PAYMENT_REQUIRED", 429: "TOO_MANY_REQUESTS"}


class Deepgram:
    name = "deepgram"

    def operation(self, request: Request) -> str | None:
        is_ours = request.method == "POST" and request.path.endswith("/v1/listen")
        return TRANSCRIPTIONS if is_ours else None

    def answer(self, request: Request, operation: str) -> Answer:
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind != "Token" or not secret or is_bad(secret):
            raise Refused(401, "Invalid credentials.")
        said, seconds = media.heard(request.body)
        model = parse_qs(request.query).get("model", ["base"])[0]
        best = {"transcript": media.sentence(said), "confidence": 0.99, "words": said}
        body = {
            "metadata": {"request_id": "sandbox", "duration": seconds, "channels": 1},
            "results": {"channels": [{"alternatives": [best], "detected_language": "en"}]},
        }
        return Answer(operation, encoded(body), model=model)

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        code = _CODES.get(refused.status, "Bad Request")
        body = {"err_code": code, "err_msg": refused.message or code, "request_id": "sandbox"}
        headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        return Answer(operation, encoded(body), refused.status, headers=headers)

    def broken_off(self) -> bytes:
        return b""
