#!/usr/bin/env python
"""Runs Patchbay's commands: `python manage.py help`."""

import gc
import os
import sys
from pathlib import Path

# `platform/` is a plain folder of packages that stands on sys.path itself. It must never become
# a package: it would shadow the standard library's `platform` (tests/test_layout.py guards it).
ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "platform"))


def main() -> None:
    # What is imported is no garbage, and to look for some takes a sixth of the start.
    gc.set_threshold(50_000)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
