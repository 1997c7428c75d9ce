# Two stages: the first installs, the second runs and has neither compiler nor pip's cache.
FROM python:3.13.9-slim-bookworm AS install
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.txt .
# Hashes pin every byte; wheels only, so nothing is built and no package's code runs here.
RUN /opt/venv/bin/pip install --require-hashes --only-binary :all: -r requirements.txt

FROM python:3.13.9-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app:/app/platform \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=config.settings \
    ENV_FILE=/app/.env.prod
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin patchbay \
    && install -d -o patchbay -g patchbay /app/var /app/staticfiles /secrets
COPY --from=install /opt/venv /opt/venv
WORKDIR /app
COPY . .
USER 10001
EXPOSE 8000
# Readiness needs the database; whether the process lives does not.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
STOPSIGNAL SIGTERM
CMD ["gunicorn", "-c", "deploy/gunicorn.conf.py", "config.asgi:application"]
