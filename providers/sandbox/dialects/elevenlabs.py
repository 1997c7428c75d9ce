"""ElevenLabs' dialect: v1 text-to-speech and speech-to-text."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from providers.amounts import SPEECH, TRANSCRIPTIONS
from providers.sandbox.dialects import media
from providers.sandbox.dialects.dialect import Answer, Refused, Request, encoded, is_bad, required
from providers.sandbox.prompt import words

_SPEAKS = re.compile(r"/v1/text-to-speech/[^/]+(?:/stream)?\Z")
_WORDS = {401: "invalid_api_key", 402: "quota_exceeded", 429: "too_many_concurrent_requests"}


class ElevenLabs:
    name = "elevenlabs"

    def operation(self, request: Request) -> str | None:
        if request.method != "POST":
            return None
        if _SPEAKS.search(request.path):
            return SPEECH
        return TRANSCRIPTIONS if request.path.endswith("/v1/speech-to-text") else None

    def answer(self, request: Request, operation: str) -> Answer:
        secret = request.headers.get("xi-api-key", "")
        if not secret or is_bad(secret):
            raise Refused(401)
        return _spoken(request) if operation == SPEECH else _heard(request)

    def refusal(self, request: Request, refused: Refused, operation: str) -> Answer:
        word = _WORDS.get(refused.status, "invalid_request")
        body = {"detail": {"status": word, "message": refused.message or word}}
        headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        return Answer(operation, encoded(body), refused.status, headers=headers)

    def broken_off(self) -> bytes:
        return b""


def _spoken(request: Request) -> Answer:
    document = request.document()
    text = required(document, "text", str)
    asked = parse_qs(request.query).get("output_format", ["mp3_44100_128"])[0]
    form = asked.partition("_")[0]
    if form not in media.SOUNDS:
        raise Refused(400, "No such output_format.")
    return Answer(
        SPEECH,
        media.sound(text, form),
        content_type=media.SOUNDS[form],
        model=str(document.get("model_id", "")),
        input_tokens=words(text),
    )


def _heard(request: Request) -> Answer:
    parts = media.form(request)
    if "file" not in parts or "model_id" not in parts:
        raise Refused(422, "Field required")
    said, seconds = media.heard(parts["file"].content)
    body = {
        "language_code": "eng",
        "text": media.sentence(said),
        "words": [
            {"text": each["word"], "start": each["start"], "end": each["end"], "type": "word"}
            for each in said
        ],
        "audio_duration_secs": seconds,
    }
    return Answer(TRANSCRIPTIONS, encoded(body), model=parts["model_id"].content.decode())
