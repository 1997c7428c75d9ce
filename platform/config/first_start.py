"""Makes the secrets of a new installation, once: `python -m config.first_start`.

Without arguments it writes `.env` from the profile `.env.dev`; with a folder, one file a secret
there, as docker-compose.yml reads them. What exists is never changed. It runs before there are
settings, so it imports none.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"SECRET_KEY": 64, "SEALING_KEYS": 48, "KEY_PEPPER": 48}
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_secret(length: int = 64) -> str:
    """Random letters and digits, about six bits each; safe in URLs, shells and files."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def write_env(path: Path, profile: Path) -> bool:
    """`profile` and fresh secrets, for the owner's eyes only. False when `path` exists."""
    lines = [f"{name}={new_secret(length)}" for name, length in SECRETS.items()]
    text = profile.read_text() + "\n# Made for this installation. Keep them: sealed credentials\n"
    text += "# and API keys cannot be read without them.\n" + "\n".join(lines) + "\n"
    return _write_once(path, text, 0o600)


def write_folder(folder: Path) -> list[str]:
    """One file a secret, for `*_FILE` settings; the names of those it made.

    The containers that mount the folder run as different users, so each may read the files;
    the folder itself is a volume that nothing else mounts.
    """
    postgres, valkey = new_secret(), new_secret()
    texts = {name.lower(): new_secret(length) for name, length in SECRETS.items()} | {
        "postgres_password": postgres,
        "database_url": f"postgresql://patchbay:{postgres}@postgres:5432/patchbay",
        "valkey_password": valkey,
        "redis_url": f"redis://:{valkey}@valkey:6379/0",
        "metrics_token": new_secret(),
        "grafana_password": new_secret(24),
    }
    if (folder / "complete").exists():
        return []
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).unlink(missing_ok=True)  # a first run that was cut short
        _write_once(folder / name, text, 0o444)
    (folder / "complete").touch()
    return sorted(texts)


def _write_once(path: Path, text: str, mode: int) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


def main(arguments: list[str]) -> None:
    if arguments:
        made = write_folder(Path(arguments[0]))
        sys.stdout.write(f"{len(made)} secrets made in {arguments[0]}\n")
    elif write_env(ROOT / ".env", ROOT / ".env.dev"):
        sys.stdout.write("Wrote .env with fresh secrets (readable by you only).\n")


if __name__ == "__main__":
    main(sys.argv[1:])
