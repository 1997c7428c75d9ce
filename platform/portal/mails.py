"""Mails, sent while the answer goes out: nobody waits for a server of mails, or learns from how
long it took whether there was one to send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import close_old_connections
from django.template.loader import render_to_string

SUBJECTS = {
    "forgotten": "A new password for Patchbay",
    "invited": "An invitation to Patchbay",
}

log = structlog.get_logger("patchbay.mail")
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mail")


def reach_people() -> bool:
    """Whether there is a server of mails: a terminal is read by those who run the service."""
    return settings.ENV.EMAIL_URL.startswith("smtp")


def meanwhile(work: Callable[[], None]) -> None:
    """Changes in it are told as done by who does them now."""
    _threads.submit(copy_context().run, by_itself, work)


def by_itself(work: Callable[[], None]) -> None:
    close_old_connections()
    try:
        work()
    except Exception as error:  # a server's answer may repeat an address: only its kind is told
        log.warning("mail_not_sent", reason=type(error).__name__)
    finally:
        close_old_connections()


def send(kind: str, email: str, context: Mapping[str, Any]) -> None:
    """Raises whatever a server of mails may fail with."""
    text = render_to_string(f"portal/mails/{kind}.txt", {"email": email, **context})
    send_mail(SUBJECTS[kind], text, None, [email])
