"""The settings: typed, checked at start, all faults at once, and no secret in any message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.environment import PROVIDER_KEYS, ConfigurationError, Environment, load
from config.first_start import new_secret
from config.management.commands.env_example import env_example

ROOT = Path(__file__).resolve().parents[1]
GOOD = {
    "SECRET_KEY": new_secret(64),
    "SEALING_KEYS": new_secret(48),
    "KEY_PEPPER": new_secret(48),
}


def faults(**changes: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(GOOD | changes)
    return str(caught.value)


def test_three_secrets_are_enough() -> None:
    environment = load(GOOD)
    assert environment.DATABASE_URL.startswith("sqlite:///")
    assert environment.REDIS_URL == ""
    assert not environment.DEBUG


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"PORT": "0", "DATABASE_URL": "mysql://x", "METRICS_NETWORKS": "10.0.0.0/99"})
    told = str(caught.value)
    for name in (
        "SECRET_KEY",
        "SEALING_KEYS",
        "KEY_PEPPER",
        "PORT",
        "DATABASE_URL",
        "METRICS_NETWORKS",
    ):
        assert f"\n  {name}: " in told


@pytest.mark.parametrize("name", ["SECRET_KEY", "SEALING_KEYS", "KEY_PEPPER"])
@pytest.mark.parametrize(
    "weak",
    [
        "",
        "short",
        "a" * 80,
        "changeme-" * 9,
        "my-secret-0123456789-0123456789-0123456789-0123456789",
    ],
)
def test_a_weak_secret_refuses_to_start(name: str, weak: str) -> None:
    told = faults(**{name: weak})
    assert f"{name}: " in told
    assert not weak or weak not in told


def test_one_weak_key_among_sealing_keys_is_enough_to_refuse() -> None:
    assert "SEALING_KEYS" in faults(SEALING_KEYS=f"{new_secret(48)},short")


@pytest.mark.parametrize(
    "settings",
    [
        {"DEBUG": "true", "ALLOWED_HOSTS": "api.patchbay.example"},
        {"DEBUG": "true", "ALLOWED_HOSTS": "localhost,api.patchbay.example"},
        {"DEBUG": "true", "ALLOWED_HOSTS": "*"},
        {"DEBUG": "true", "ENVIRONMENT": "prod"},
    ],
)
def test_debug_stays_off_in_public(settings: dict[str, str]) -> None:
    assert "DEBUG must be off" in faults(**settings)


def test_debug_is_allowed_at_home() -> None:
    assert load(GOOD | {"DEBUG": "true"}).DEBUG


@pytest.mark.parametrize("name", sorted(PROVIDER_KEYS))
def test_a_providers_key_that_was_cut_off_is_noticed(name: str) -> None:
    told = faults(**{name: "sk-cut off"})
    assert f"{name}: does not look like" in told
    assert "sk-cut off" not in told


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    path.write_text(GOOD["SECRET_KEY"] + "\n")
    others = {name: value for name, value in GOOD.items() if name != "SECRET_KEY"}
    assert GOOD["SECRET_KEY"] == load(others | {"SECRET_KEY_FILE": str(path)}).SECRET_KEY
    with pytest.raises(ConfigurationError, match="SECRET_KEY_FILE: cannot read"):
        load(others | {"SECRET_KEY_FILE": str(tmp_path / "none")})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("PORT=8111\nLOG_LEVEL=debug\n")
    environment = load(GOOD | {"PORT": "8222"}, env_file=path)
    assert (environment.PORT, environment.LOG_LEVEL) == (8222, "debug")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"retry": {"max_attempts": NaN}}', "is not JSON"),
        ("[]", "the policy: Must be object"),
        ('{"preset": "simple"}', "preset: Unknown"),
        ('{"retry": {"max_attempts": 0}}', "retry/max_attempts: Must be at least 1"),
        ('{"breaker": {"window": {"type": "time"}}}', "breaker/window: Say"),
    ],
)
def test_a_policy_that_cannot_be_read_refuses_to_start(text: str, told: str) -> None:
    assert f"RESILIENCE: {told}" in faults(RESILIENCE=text)


def test_the_houses_policy_is_json() -> None:
    assert load(GOOD).RESILIENCE == load(GOOD | {"RESILIENCE": ""}).RESILIENCE == {}
    assert load(GOOD).RESILIENCE_PRESET == "simple"
    said = '{"breaker": {"preset": "production"}, "retry": {"max_attempts": 1}}'
    assert load(GOOD | {"RESILIENCE": said}).RESILIENCE["retry"] == {"max_attempts": 1}
    assert "RESILIENCE_PRESET: " in faults(RESILIENCE_PRESET="none")


@given(st.text(max_size=28).filter(str.isprintable))
def test_no_message_repeats_a_value(text: str) -> None:
    value = f"⟦{text}⟧"
    names = ("SECRET_KEY", "SEALING_KEYS", "KEY_PEPPER", "OPENAI_API_KEY", "REDIS_URL", "PORT")
    with pytest.raises(ConfigurationError) as caught:
        load(dict.fromkeys(names, value))
    assert not set("⟦⟧") & set(str(caught.value))


def test_the_example_is_current() -> None:
    assert (ROOT / ".env.example").read_text() == env_example(), "run: make env-example"


def test_the_example_names_every_setting_and_holds_no_secret() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    settings = [
        line.lstrip("#").partition("=")
        for line in lines
        if "=" in line and not line.startswith("# ")
    ]
    assert [name for name, _, _ in settings] == list(Environment.model_fields)
    assert all(not value for name, _, value in settings if name in GOOD)


@pytest.mark.parametrize("profile", [".env.dev", ".env.prod"])
def test_the_profiles_name_only_settings_that_exist(profile: str) -> None:
    for line in (ROOT / profile).read_text().splitlines():
        if line and not line.startswith("#"):
            assert line.partition("=")[0].removesuffix("_FILE") in Environment.model_fields


def test_a_process_with_bad_settings_ends_with_the_faults_and_no_traceback(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENV_FILE": str(tmp_path / "none"), "PORT": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "SECRET_KEY: is not set; see .env.example" in told.stderr
    assert "Traceback" not in told.stderr


def test_production_passes_djangos_deployment_checks() -> None:
    told = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENV_FILE": "tests/prod.env"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
