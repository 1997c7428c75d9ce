"""No secret gets into a log, whichever kind it is and wherever it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.logs import redact
from tenants.keys import Mode, generate

ROOT = Path(__file__).parents[2]
SECRETS = [
    generate(Mode.LIVE).text,
    generate(Mode.TEST).text,
    "sk-proj-abcdefghij0123456789",
    "sk-ant-" + "abcdefgh0" * 4,
    "gsk_abcdefghij0123456789",
    "hf_abcdefghij0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:7])
def test_a_secret_is_taken_out(secret: str) -> None:
    for text in (
        secret,
        f"Authorization: Bearer {secret}",
        f'{{"key":"{secret}"}}',
        f"x={secret}&y=1",
    ):
        told = redact(text)
        assert secret not in told and "[redacted]" in told


def test_ordinary_text_stays() -> None:
    text = "task-force, risk-averse: GET /api/v1/models 200 in 12 ms for key_AbCdEf123456"
    assert redact(text) == text


def test_every_logger_writes_one_json_object_a_line_without_secrets() -> None:
    secret = SECRETS[0]
    code = f"""
import django; django.setup()
import logging, structlog
structlog.get_logger("a").info("hello", key={secret!r}, number=1)
logging.getLogger("b").warning("plain %s", {secret!r})
try:
    raise ValueError({secret!r})
except ValueError:
    structlog.get_logger("c").exception("failed")
"""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": ".:platform",
        "LOG_LEVEL": "info",
    }
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line["event"][:5] for line in lines] == ["hello", "plain", "faile"]
    assert all({"level", "timestamp"} <= set(line) for line in lines)
    assert secret not in told.stdout + told.stderr
