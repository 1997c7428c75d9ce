"""Closed lists of words."""

from __future__ import annotations

import enum


class Word(enum.StrEnum):
    """One word of a closed list. It hashes as the text that it is, in C: an Enum's own hash is
    Python code, and every call looks words up."""

    __hash__ = str.__hash__
