"""The product's settings, from tests/test.env alone: nobody's `.env` or exported keys leak in."""

import os
from pathlib import Path

from config.environment import Environment

for _name in Environment.model_fields:
    os.environ.pop(_name, None)
    os.environ.pop(f"{_name}_FILE", None)
os.environ["ENV_FILE"] = str(Path(__file__).with_name("test.env"))

from config.settings import *  # noqa: E402, F403 - the environment had to come first

# A quick hash: what the slow one protects is not under test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Static files are looked up when they are asked for: to list all of them takes most of the time
# that a test's client takes to make.
WHITENOISE_AUTOREFRESH = True
