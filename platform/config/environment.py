"""Every setting, typed, from the environment, `.env` or a `*_FILE` secret; checked at start.

All faults are reported at once (`load` raises ConfigurationError with one line each).
`.env.example` is written from this file by `manage.py env_example`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config.mail import leads_somewhere
from providers import resilience

ROOT = Path(__file__).resolve().parents[2]

WEAK_SECRETS = ("changeme", "secret", "password", "insecure", "example")

# What a key of each provider looks like; a value of another shape is a mistake caught early.
PROVIDER_KEYS: Mapping[str, str] = {
    "OPENAI_API_KEY": r"sk-[\w-]{16,}",
    "ANTHROPIC_API_KEY": r"sk-ant-[\w-]{16,}",
    "GEMINI_API_KEY": r"[\w.-]{20,}",
    "GROQ_API_KEY": r"gsk_\w{16,}",
    "MISTRAL_API_KEY": r"\w{20,}",
    "COHERE_API_KEY": r"[\w-]{20,}",
    "OPENROUTER_API_KEY": r"sk-or-[\w-]{16,}",
    "HF_TOKEN": r"hf_\w{16,}",
    "OLLAMA_BASE_URL": r"https?://\S+",
}

CommaSeparated = Annotated[list[str], NoDecode]


class ConfigurationError(Exception):
    """The settings are not usable; the text names every fault, a line each."""


class Environment(BaseSettings):
    """Patchbay's settings. Each may also come from a file named by `<NAME>_FILE`."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", case_sensitive=True)

    ENVIRONMENT: Literal["dev", "test", "prod"] = Field(
        "dev", description="dev, test or prod; shown in the admin."
    )
    DEBUG: bool = Field(False, description="Django's debug pages. Never on a public host.")
    SECRET_KEY: str = Field(
        ..., description="Signs sessions and tokens: 50 or more random characters."
    )
    SEALING_KEYS: CommaSeparated = Field(
        ...,
        description="Seal provider secrets: one or more random strings of 32 or more characters, "
        "comma separated, newest first.",
    )
    KEY_PEPPER: str = Field(
        ..., description="Keys the hashes of API keys: 32 or more random characters. Never change."
    )
    ALLOWED_HOSTS: CommaSeparated = Field(
        ["127.0.0.1", "localhost", "[::1]"], description="Host names served, comma separated."
    )
    DATABASE_URL: str = Field(
        "sqlite:///var/patchbay.sqlite3",
        description="sqlite:///path or postgresql://user:password@host:5432/name",
    )
    REDIS_URL: str = Field("", description="redis://host:6379/0; empty: one process, no Redis.")
    SANDBOX_URL: str = Field(
        "", description="Where the sandbox listens; `make run` sets it. Empty: no test-mode calls."
    )
    TRUSTED_PROXY_HOPS: int = Field(
        0, ge=0, le=10, description="Reverse proxies in front, each adding to X-Forwarded-For."
    )
    METRICS_TOKEN: str = Field("", description="Bearer token for /api/metrics. Empty: none.")
    METRICS_NETWORKS: CommaSeparated = Field(
        ["127.0.0.0/8", "::1/128"], description="Networks that may read /api/metrics."
    )
    INTERNAL_API: bool = Field(
        True, description="Serve the management API at /internal/. Off: it is not there at all."
    )
    LOG_LEVEL: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged. Calls are logged at info."
    )
    MAX_BODY_BYTES: int = Field(
        8 * 1024 * 1024, ge=1024, description="Largest request body on the data path."
    )
    MAX_UPLOAD_BYTES: int = Field(
        25 * 1024 * 1024,
        ge=1024,
        le=100 * 1024 * 1024,
        description="Largest request body with a recording in it; it is held in memory.",
    )
    DEADLINE_MS: int = Field(60_000, ge=100, description="Longest a call may take in all.")
    MAX_IN_FLIGHT: int = Field(
        10_000,
        ge=1,
        description="Calls that one gateway process answers at the same time. Those beyond are "
        "refused: 503 overloaded.",
    )
    MAX_LAG_MS: int = Field(
        100,
        ge=0,
        le=10_000,
        description="How long calls may wait for a gateway's processor before it refuses a share "
        "of the new ones. 0: it never does.",
    )
    CACHE_MEMORY_BYTES: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="What a gateway worker's own cache of answers may take.",
    )
    CACHE_SHARED_BYTES: int = Field(
        256 * 1024 * 1024,
        ge=1024 * 1024,
        description="What the cache of all workers may take in Redis.",
    )
    CACHE_WARM_PER_MINUTE: int = Field(
        60,
        ge=0,
        le=100_000,
        description="Calls a minute that all workers together may make to keep answers warm. 0: "
        "none, and nothing is learned.",
    )
    CACHE_WARM_PERCENT: int = Field(
        10,
        ge=1,
        le=100,
        description="What they may use of each limit and quota, in per cent: the providers' "
        "and their tenant's.",
    )
    DRAIN_SECONDS: float = Field(
        1.0,
        ge=0,
        le=10,
        description="After SIGTERM `/readyz` says no at once, and calls are still taken for so "
        "long: more than your load balancer's probe interval.",
    )
    RESILIENCE_PRESET: Literal["simple", "development", "production"] = Field(
        "simple",
        description="Numbers for all providers' breakers and retries: simple (3 tries, 5 failures "
        "in a row, 60 s), development (2, 3, 30 s) or production (5, 10, 120 s).",
    )
    RESILIENCE: Annotated[dict[str, Any], NoDecode] = Field(
        {},
        description="What goes before the preset, as JSON: "
        '{"breaker": {"open_seconds": 90}, "retry": {"budget_percent": 10}}.',
    )
    LEDGER_KEEP_MONTHS: int = Field(
        0,
        ge=0,
        description="Ledger rows older than so many whole months go, their sums by day "
        "stay. 0 keeps them for ever; otherwise 2 or more.",
    )
    VERIFY_PROVIDERS: Literal["off", "keyed", "all"] = Field(
        "keyed",
        description="Which enabled providers the worker verifies with a real call now and then: "
        "off (none), keyed (those with a credential) or all (keyless ones too).",
    )
    VERIFY_EVERY_MINUTES: int = Field(
        60, ge=5, le=1440, description="How long after a verification the next one is due."
    )
    VERIFY_CALLS_PER_HOUR: int = Field(
        6,
        ge=1,
        le=60,
        description="Verifications and trials by staff that a provider is sent in an hour at most.",
    )
    VERIFY_CALLS_PER_DAY: int = Field(
        48, ge=1, le=200, description="The same in a day, that is in any 24 hours."
    )
    VERIFY_SHARE_PERCENT: int = Field(
        5,
        ge=1,
        le=50,
        description="What verification may use of a provider's hourly, daily and monthly limits.",
    )
    ACCESS_TOKEN_MINUTES: int = Field(10, ge=1, le=60, description="Life of an access token.")
    REFRESH_TOKEN_DAYS: int = Field(14, ge=1, le=90, description="Life of a refresh token.")
    EMAIL_URL: str = Field(
        "",
        description="Where mails go: smtp://user:password@host:587 (with STARTTLS), smtps://…:465, "
        "smtp+plain://… or console:. Empty: nowhere, and a forgotten password is set by staff.",
    )
    EMAIL_FROM: str = Field("patchbay@localhost", description="Whom mails come from.")
    CORS_ORIGINS: CommaSeparated = Field([], description="Browser origins that may call the API.")
    PORT: int = Field(8000, ge=1, le=65535, description="Where `make run` listens.")

    OPENAI_API_KEY: str = Field("", description="Enables OpenAI.")
    ANTHROPIC_API_KEY: str = Field("", description="Enables Anthropic.")
    GEMINI_API_KEY: str = Field("", description="Enables Google Gemini.")
    GROQ_API_KEY: str = Field("", description="Enables Groq.")
    MISTRAL_API_KEY: str = Field("", description="Enables Mistral.")
    COHERE_API_KEY: str = Field("", description="Enables Cohere.")
    OPENROUTER_API_KEY: str = Field("", description="Enables OpenRouter.")
    HF_TOKEN: str = Field("", description="Enables the Hugging Face router.")
    OLLAMA_BASE_URL: str = Field("", description="Enables Ollama, e.g. http://127.0.0.1:11434/v1")

    @field_validator(
        "SEALING_KEYS", "ALLOWED_HOSTS", "METRICS_NETWORKS", "CORS_ORIGINS", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("SECRET_KEY")
    @classmethod
    def _strong_secret(cls, value: str) -> str:
        return _strong(value, 50)

    @field_validator("KEY_PEPPER")
    @classmethod
    def _strong_pepper(cls, value: str) -> str:
        return _strong(value, 32)

    @field_validator("SEALING_KEYS")
    @classmethod
    def _strong_sealing_keys(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("at least one sealing key is needed")
        return [_strong(key, 32) for key in value]

    @field_validator("RESILIENCE", mode="before")
    @classmethod
    def _usable_policy(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = orjson.loads(value or "{}")
            except orjson.JSONDecodeError:
                raise ValueError("is not JSON; see docs/operate/resilience.md") from None
        if faults := resilience.faults(value):
            raise ValueError("; ".join(map(str, faults)))
        return value

    @field_validator("LEDGER_KEEP_MONTHS")
    @classmethod
    def _not_too_few_months(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be 0, or 2 or more")
        return value

    @field_validator("METRICS_NETWORKS")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("DATABASE_URL")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql://", "postgres://")):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return value

    @field_validator("REDIS_URL")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "valkey://", "unix://")):
            raise ValueError("must begin with redis://, rediss://, valkey:// or unix://")
        return value

    @field_validator("EMAIL_URL")
    @classmethod
    def _known_mail_server(cls, value: str) -> str:
        if not leads_somewhere(value):
            raise ValueError("must be smtp://host, smtps://host, smtp+plain://host or console:")
        return value

    @field_validator(*PROVIDER_KEYS)
    @classmethod
    def _provider_key_shape(cls, value: str, info: Any) -> str:
        shape = PROVIDER_KEYS[info.field_name]
        if value and not re.fullmatch(shape, value):
            raise ValueError("does not look like a key of this provider; copy it again, whole")
        return value

    @model_validator(mode="after")
    def _no_debug_in_public(self) -> Environment:
        if self.DEBUG and (
            self.ENVIRONMENT == "prod" or not all(map(_is_local, self.ALLOWED_HOSTS))
        ):
            raise ValueError("DEBUG must be off on a public host or in prod")
        return self

    @model_validator(mode="after")
    def _no_links_in_the_logs_of_prod(self) -> Environment:
        if self.ENVIRONMENT == "prod" and self.EMAIL_URL.startswith("console:"):
            raise ValueError("EMAIL_URL must not be console: in prod, whose logs others read")
        return self

    def provider_key(self, name: str) -> str:
        """A provider's secret from the environment, or nothing."""
        return str(getattr(self, name, "") or os.environ.get(name, ""))


def _strong(value: str, length: int) -> str:
    if len(value) < length:
        raise ValueError(f"needs {length} or more characters; `make secret` prints one")
    if len(set(value)) < 10 or any(weak in value.lower() for weak in WEAK_SECRETS):
        raise ValueError("is a placeholder or too regular; `make secret` prints a good one")
    return value


def _is_local(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "[::1]", "testserver", ".localhost"}


def load(source: Mapping[str, str] | None = None, *, env_file: Path | None = None) -> Environment:
    """The settings from `source` (the process's environment), over `env_file`.

    Raises ConfigurationError naming every fault at once; values are never repeated in it.
    """
    values = _from_file(env_file) | dict(os.environ if source is None else source)
    faults: list[str] = []
    for name in Environment.model_fields:
        path = values.get(f"{name}_FILE")
        if path and name not in values:
            try:
                values[name] = Path(path).read_text().strip()
            except OSError as error:
                faults.append(f"{name}_FILE: cannot read {path} ({error.strerror})")
    known = {k: v for k, v in values.items() if k in Environment.model_fields}
    try:
        environment = Environment.model_validate(known)
    except ValidationError as error:
        faults += [_fault(item) for item in error.errors(include_input=False)]
        environment = None
    if faults or environment is None:
        raise ConfigurationError("The settings are not usable:\n  " + "\n  ".join(faults))
    return environment


def _fault(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"]) or "settings"
    message = "is not set; see .env.example" if item["type"] == "missing" else item["msg"]
    return f"{name}: {message.removeprefix('Value error, ')}"


def _from_file(path: Path | None) -> dict[str, str]:
    from dotenv import dotenv_values

    if path is None or not path.exists():
        return {}
    return {k: v for k, v in dotenv_values(path).items() if v is not None}
