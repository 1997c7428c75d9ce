"""Speech: sound that is passed on as it comes, counted by the characters that were to be said."""

from __future__ import annotations

from collections.abc import Mapping

from providers import amounts
from providers.call import Answer, Call, Outcome, Usage
from providers.whole import bad_payload


def is_sound(headers: Mapping[str, str]) -> bool:
    """By what it says of itself."""
    kind = headers.get("content-type", "").lower()
    return kind.startswith(("audio/", "application/octet-stream"))


class SoundMeter:
    """What it costs is known from the start. `complete` is for the relay to say, when the
    connection has come to its end as HTTP has it: sound has no mark of its own for that."""

    def __init__(self, call: Call) -> None:
        self.usage: Usage | None = amounts.of_speech(call)
        self.output_characters = 0
        self.complete = False

    def whole(self, outcome: Outcome, body: bytes) -> Answer:
        raise bad_payload("The answer is no sound.")

    def feed(self, chunk: bytes) -> list[bytes]:
        return [chunk] if chunk else []

    def close(self) -> list[bytes]:
        return []
