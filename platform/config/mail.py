"""EMAIL_URL to Django's settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

SCHEMES = {"smtp": 587, "smtps": 465, "smtp+plain": 25}  # and their ports
TIMEOUT = 10  # seconds a server of mails may take


def leads_somewhere(url: str) -> bool:
    """Whether it can be made sense of. Empty it says that no mails are sent."""
    if url in {"", "console:"}:
        return True
    try:
        parts = urlsplit(url)
        return parts.port != 0 and parts.scheme in SCHEMES and bool(parts.hostname)
    except ValueError:  # whose text repeats a part of it
        return False


def mail(url: str) -> dict[str, Any]:
    """To a server: over TLS after STARTTLS (smtp), from its first byte (smtps), or not at all.
    Or onto the terminal; without a URL, nowhere."""
    parts = urlsplit(url)
    backend = {"": "dummy", "console": "console"}.get(parts.scheme, "smtp")
    return {
        "EMAIL_BACKEND": f"django.core.mail.backends.{backend}.EmailBackend",
        "EMAIL_HOST": parts.hostname or "",
        "EMAIL_PORT": parts.port or SCHEMES.get(parts.scheme, 0),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": TIMEOUT,
    }
