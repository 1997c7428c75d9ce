"""How production serves: what gunicorn is told, and what the gateway must never believe."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from config.management.commands.run import _gateway
from config.server import GatewayWorker

ROOT = Path(__file__).parents[2]


def test_no_server_believes_forwarded_headers_by_itself() -> None:
    assert GatewayWorker.CONFIG_KWARGS["proxy_headers"] is False
    assert "--no-proxy-headers" in _gateway(8000)


def test_both_ways_of_serving_agree() -> None:
    command = _gateway(8000)
    for option, name in (("--loop", "loop"), ("--http", "http"), ("--ws", "ws")):
        assert command[command.index(option) + 1] == GatewayWorker.CONFIG_KWARGS[name]
    assert "--no-access-log" in command and GatewayWorker.CONFIG_KWARGS["access_log"] is False


def test_gunicorn_waits_for_running_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    settings = runpy.run_path(str(ROOT / "deploy/gunicorn.conf.py"))
    assert settings["worker_class"] == "config.server.GatewayWorker"
    assert settings["workers"] == 3
    assert settings["graceful_timeout"] > 60 + 10  # DEADLINE_MS, DRAIN_SECONDS at its most
    assert settings["accesslog"] is None
