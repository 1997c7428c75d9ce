"""How gunicorn's workers serve the gateway in production (see deploy/gunicorn.conf.py)."""

from __future__ import annotations

from typing import Any

from uvicorn_worker import UvicornWorker


class GatewayWorker(UvicornWorker):  # type: ignore[misc]  # it has no types
    """uvicorn as `make run` starts it. `proxy_headers` stays off: which proxies may name the
    caller's address is said by TRUSTED_PROXY_HOPS and decided in one place."""

    CONFIG_KWARGS: dict[str, Any] = {
        "loop": "uvloop",
        "http": "config.http:Protocol",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
    }
