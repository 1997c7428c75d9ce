"""EMAIL_URL becomes Django's settings."""

from __future__ import annotations

import pytest
from django.core.mail import get_connection

from config.mail import mail
from tests.test_environment import faults

UNREADABLE = ["smtp://me:pa/ss@mail.example", "smtp://mail.example:99999", "smtp://[mail.example"]


@pytest.mark.parametrize(
    ("url", "port", "tls", "ssl"),
    [
        ("smtp://mail.example", 587, True, False),
        ("smtps://mail.example", 465, False, True),
        ("smtp+plain://mail.example:1025", 1025, False, False),
    ],
)
def test_a_server_is_spoken_to_as_its_url_says(url: str, port: int, tls: bool, ssl: bool) -> None:
    told = mail(url)
    assert told["EMAIL_BACKEND"].endswith("smtp.EmailBackend")
    assert (told["EMAIL_HOST"], told["EMAIL_PORT"]) == ("mail.example", port)
    assert (told["EMAIL_USE_TLS"], told["EMAIL_USE_SSL"]) == (tls, ssl)
    assert told["EMAIL_TIMEOUT"] <= 10  # a server that hangs holds nobody for long


def test_odd_characters_in_the_password() -> None:
    told = mail("smtp://us%40er:p%3A%2F%3F@mail.example")
    assert (told["EMAIL_HOST_USER"], told["EMAIL_HOST_PASSWORD"]) == ("us@er", "p:/?")


@pytest.mark.parametrize(("url", "backend"), [("", "dummy"), ("console:", "console")])
def test_without_a_server(url: str, backend: str) -> None:
    assert type(get_connection(mail(url)["EMAIL_BACKEND"])).__module__.endswith(f".{backend}")


@pytest.mark.parametrize(
    "url", ["mail.example", "http://mail.example", "smtp://", "smtp:x:y", *UNREADABLE]
)
def test_a_url_that_leads_nowhere_refuses_to_start(url: str) -> None:
    told = faults(EMAIL_URL=url)
    assert "EMAIL_URL: must be smtp://host" in told and "'pa" not in told


def test_links_are_not_for_the_logs_of_prod() -> None:
    assert "must not be console:" in faults(EMAIL_URL="console:", ENVIRONMENT="prod")
