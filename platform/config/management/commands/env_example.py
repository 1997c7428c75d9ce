"""Prints `.env.example` from the settings' own definitions (config/environment.py)."""

from __future__ import annotations

import textwrap
from typing import Any

from django.core.management.base import BaseCommand

from config.environment import Environment

HEADER = """\
# Every setting of Patchbay. Written by `manage.py env_example`; a test keeps it true.
# `make run` makes a `.env` of its own with fresh secrets; in production, see docs/operate.
# Each setting may also come from a file: NAME_FILE=/run/secrets/name. The environment wins
# over the file. `make secret` prints a good secret.
"""


class Command(BaseCommand):
    help = "Prints .env.example, made from the settings."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(env_example(), ending="")


def env_example() -> str:
    """The whole file: required settings open, the others commented out at their default."""
    blocks = [_block(name, field) for name, field in Environment.model_fields.items()]
    return HEADER + "".join(blocks)


def _block(name: str, field: Any) -> str:
    comment = textwrap.wrap(str(field.description), 96)
    lines = [f"# {line}" for line in comment]
    if field.is_required():
        lines.append(f"{name}=")
    else:
        lines.append(f"#{name}={_text(field.default)}")
    return "\n" + "\n".join(lines) + "\n"


def _text(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, list) else str(default)
