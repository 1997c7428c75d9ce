"""gunicorn in production: `gunicorn -c deploy/gunicorn.conf.py config.asgi:application`."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
worker_class = "config.server.GatewayWorker"
# One process counts its limits by itself; more need REDIS_URL (docs/operate/deploy.md).
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
backlog = 2048
# Longer than DRAIN_SECONDS and DEADLINE_MS, so that a running call always comes to its end
# and its ledger row.
graceful_timeout = 75
timeout = 120
keepalive = 75
# Heartbeats belong in memory: on a slow disk they would look like a hanging worker.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes an unguessable file in it
accesslog = None  # the gateway writes its own, as JSON
loglevel = "warning"
