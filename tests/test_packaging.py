"""The container image and the compose file, as far as they can be judged without an engine:
the rules of the Compose specification that bite, and those of hadolint that matter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.environment import Environment
from config.first_start import write_folder

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# https://github.com/compose-spec/compose-spec/blob/main/05-services.md
KNOWN = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "networks",
    "ports", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
ONE_SHOT = {"secrets", "migrate"}


def test_the_promised_services_are_there() -> None:
    promised = {
        "gateway-1",
        "gateway-2",
        "nginx",
        "worker",
        "valkey",
        "postgres",
        "prometheus",
        "grafana",
    }
    assert promised <= set(SERVICES)
    assert set(COMPOSE) <= {"name", "services", "volumes", "networks"} | {
        k for k in COMPOSE if k[:2] == "x-"
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_uses_the_specifications_words(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= KNOWN
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    for needed, rule in service.get("depends_on", {}).items():
        assert needed in SERVICES
        expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert rule == {"condition": expected}
    for network in service["networks"]:
        assert network in COMPOSE["networks"]
    for key, value in service.get("environment", {}).items():
        assert isinstance(value, str), f"{key} would be read as no string"


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_exist(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *_ = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists()
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_a_version(name: str) -> None:
    service = SERVICES[name]
    image, _, tag = service["image"].rpartition(":")
    assert image
    if "build" not in service:
        assert re.match(r"v?\d+\.\d+(\.\d+)?(-\w+)?$", tag), f"{tag} moves"


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_what_keeps_running_says_whether_it_is_well(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


def test_nobody_waits_for_himself() -> None:
    def needs(name: str, path: tuple[str, ...] = ()) -> None:
        assert name not in path, f"a circle: {path}"
        for needed in SERVICES[name].get("depends_on", {}):
            needs(needed, (*path, name))

    for name in SERVICES:
        needs(name)


def test_secrets_come_from_files_only() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|PEPPER|SEALING", key):
                assert key.endswith("FILE") and value.startswith("/secrets/")
    assert "POSTGRES_PASSWORD:" not in text


def test_the_first_start_makes_every_secret_that_is_named(tmp_path: Path) -> None:
    made = set(write_folder(tmp_path / "secrets"))
    files = ("docker-compose.yml", ".env.prod", "deploy/prometheus.yml")
    texts = "\n".join((ROOT / name).read_text() for name in files)
    assert set(re.findall(r"/secrets/(\w+)", texts)) == made


def test_stores_and_gateways_are_not_reached_from_outside() -> None:
    published = {name for name, service in SERVICES.items() if "ports" in service}
    assert published == {"nginx", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["grafana"]["ports"])
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("postgres", "valkey", "sandbox", "prometheus"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_our_containers_hold_no_more_rights_than_they_need() -> None:
    for service in SERVICES.values():
        if "build" in service:
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["read_only"] is True


def test_settings_that_are_set_exist() -> None:
    for name in ("gateway-1", "worker", "sandbox"):
        assert set(SERVICES[name]["environment"]) <= set(Environment.model_fields)


def stages() -> list[str]:
    return re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]


def instructions(stage: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", stage)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_base_images_are_slim_and_pinned() -> None:
    images = [instructions(stage)[0][1].split()[0] for stage in stages()]
    assert len(images) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image) for image in images)


def test_the_last_stage_runs_as_nobody_in_particular() -> None:
    last = instructions(stages()[-1])
    users = [value for name, value in last if name == "USER"]
    assert users and users[-1].isdigit() and int(users[-1]) >= 10000
    after = last[last.index(("USER", users[-1])) :]
    assert not any(name in {"RUN", "COPY", "ADD"} for name, _ in after)


def test_the_last_stage_builds_and_installs_nothing() -> None:
    runs = " ".join(value for name, value in instructions(stages()[-1]) if name == "RUN")
    for word in ("apt-get", "pip", "gcc", "build-essential", "curl"):
        assert word not in runs


def test_packages_are_installed_by_hash_and_never_built() -> None:
    install = next(value for name, value in instructions(stages()[0]) if "pip install" in value)
    assert "--require-hashes" in install and "--only-binary :all:" in install


def test_the_image_follows_the_usual_rules() -> None:
    last = instructions(stages()[-1])
    names = [name for name, _ in last]
    assert "ADD" not in names and "MAINTAINER" not in names
    assert "sudo" not in DOCKERFILE and "latest" not in DOCKERFILE
    assert names.count("CMD") == 1 and names.count("HEALTHCHECK") == 1
    assert json.loads(next(value for name, value in last if name == "CMD"))[0] == "gunicorn"
    assert all(value.startswith("/") for name, value in last if name == "WORKDIR")
    assert not re.search(r"(SECRET_KEY|SEALING_KEYS|KEY_PEPPER)=", DOCKERFILE)


def test_no_secret_and_no_data_get_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert "*" in lines
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert not let_in & {".env", "var", ".git", "tests", "."}
    assert {"manage.py", "requirements.txt", ".env.prod", "deploy/gunicorn.conf.py"} <= let_in
    for name in let_in:
        assert (ROOT / name).exists()


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    code = "\n".join(p.read_text() for p in (ROOT / "platform").rglob("*.py"))
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/patchbay.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) >= 8
    for name in set(re.findall(r"patchbay_\w+", " ".join(asked))):
        assert f'"{name.removesuffix("_bucket")}"' in code, name


def test_the_parts_of_the_deployment_name_one_another_rightly() -> None:
    nginx = (ROOT / "deploy/nginx.conf").read_text()
    assert set(re.findall(r"server (gateway-\d):8000", nginx)) == {"gateway-1", "gateway-2"}
    assert "proxy_buffering off" in nginx
    assert "X-Forwarded-For $remote_addr" in nginx, "a client could name its own address"
    assert nginx.count("{") == nginx.count("}")
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
    targets = prometheus["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {target.partition(":")[0] for target in targets} <= set(SERVICES)
