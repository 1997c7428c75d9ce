"""API keys as text: made, read and hashed; no database.

    pb_<live|test>_<public id>_<secret><checksum>

The public id (12 base-62 characters) finds the row, the secret (30 characters, 178 bits)
proves the caller, and the checksum (CRC-32 of all before it, 6 characters) lets junk be
refused with no look-up. Only an HMAC of the whole key under a pepper kept outside the
database is stored, so a dump can neither be used nor be tried offline.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from typing import NamedTuple

from lib.words import Word

PATTERN = r"pb_(live|test)_([0-9A-Za-z]{12})_([0-9A-Za-z]{30})([0-9A-Za-z]{6})"
_KEY = re.compile(PATTERN + r"\Z")
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_BASE62)}


class Mode(Word):
    """Live keys reach providers; test keys always the sandbox, for nothing."""

    LIVE = "live"
    TEST = "test"


class ParsedKey(NamedTuple):
    """A key whose form and checksum are right; whether it exists is another question."""

    text: str
    mode: Mode
    public_id: str


def generate(mode: Mode) -> ParsedKey:
    """A new key. The text is shown to its owner once and never stored."""
    public_id = _random(12)
    body = f"pb_{mode}_{public_id}_{_random(30)}"
    return ParsedKey(body + _checksum(body), mode, public_id)


def parse(text: str) -> ParsedKey | None:
    """The key, or None when the text is no key of ours (wrong form or checksum)."""
    match = _KEY.match(text)
    if match is None or zlib.crc32(text[:-6].encode()) != _number(match[4]):
        return None
    return ParsedKey(text, Mode(match[1]), match[2])


def digest(text: str, pepper: bytes) -> str:
    """What is stored: HMAC-SHA256 under the pepper, in hexadecimal.

    A fast hash is right for a secret of 178 random bits (OWASP ASVS 5.0, 6.5.2); a slow one
    would only be a lever for denial of service.
    """
    return hmac.digest(pepper, text.encode(), hashlib.sha256).hex()


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 62 + _VALUES[digit]
    return number


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return digits
