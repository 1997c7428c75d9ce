# `make run` and `make test` need Python 3.11 or newer, and nothing else.

VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := .:platform
# Without compiled files every process would compile everything anew: a third of its start.
unexport PYTHONDONTWRITEBYTECODE
# What checks and tests are configured with: never a developer's own .env.
TEST_ENV := ENV_FILE=tests/test.env

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench chaos secret lock env-example provider-docs up clean npm

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/product.stamp .env ## Set up and serve on 127.0.0.1:8000 (PORT=… for another port)
	@exec $(BIN)/python manage.py run

test: $(VENV)/tools.stamp npm ## The whole suite, with a real Valkey and PostgreSQL, and a browser
	@$(BIN)/python -m pytest -q $(BROWSER)
	@$(BIN)/python -m pytest $(SHARED_OUT) --ignore=$(BROWSER) --cov --cov-report=term --cov-fail-under=85
# A browser takes all the machine has, and what else runs beside it would miss its moments.
BROWSER := tests/browser
# One process more than there are cores, since many tests wait; the tests of a file stay together,
# for they share what takes long to start.
SHARED_OUT := -n 4 --dist loadfile --no-loadscope-reorder

check: $(VENV)/tools.stamp ## Format, lint, types, layers, migrations, deployment settings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(TEST_ENV) $(BIN)/mypy .
	$(TEST_ENV) $(BIN)/lint-imports
	$(TEST_ENV) $(BIN)/python manage.py makemigrations --check --dry-run
	ENV_FILE=tests/prod.env $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(TEST_ENV) $(BIN)/python manage.py env_example | diff - .env.example
	$(BIN)/python -m pytest -q tests/test_layout.py tests/test_docs.py tests/test_packaging.py

bench: $(VENV)/tools.stamp ## The benchmark of docs/operate/benchmark.md
	@$(TEST_ENV) $(BIN)/python tests/bench/run.py

chaos: $(VENV)/tools.stamp ## The long kill tests and sieges (PATCHBAY_CHAOS_MINUTES=… for longer ones)
	@$(BIN)/python -m pytest -m chaos --long

secret: ## Print a secret that is good for any setting
	@python3 -c 'import secrets; print(secrets.token_hex(32))'

lock: ## Lock the requirements anew (needs uv)
	uv pip compile $(LOCK) requirements.in -o requirements.txt
	uv pip compile $(LOCK) requirements-dev.in -c requirements.txt -o requirements-dev.txt
LOCK := --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-annotate

env-example: $(VENV)/product.stamp ## Write .env.example from the settings
	@$(TEST_ENV) $(BIN)/python manage.py env_example > .env.example

provider-docs: $(VENV)/tools.stamp ## Write the pages of docs/providers from the catalogue and the recordings
	@$(TEST_ENV) $(BIN)/python manage.py provider_docs
	@$(BIN)/python -m pytest -q --write tests/gateway/unit/test_recordings.py

up: ## The production shape in containers: two gateways, PostgreSQL, Valkey, Prometheus, Grafana
	docker compose up --build --wait

clean: ## Remove what was made here, the data in var/ and .env excepted
	rm -rf $(VENV) tests/sdk/npm/node_modules staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The virtual environment, made by the first of these that is new enough. Version managers put
# commands on the PATH that only say that a version is not installed, so each is tried.
$(BIN)/python:
	@for python in python3 python3.13 python3.12 python3.11 python; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then echo "Making $(VENV) with $$($$python --version)"; exec $$python -m venv $(VENV); fi; \
	done; \
	echo 'Patchbay needs Python 3.11 or newer (with venv). Install it, for example: apt install python3.11 python3.11-venv' >&2; \
	exit 1

$(VENV)/product.stamp: requirements.txt | $(BIN)/python
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/tools.stamp: requirements-dev.txt $(VENV)/product.stamp
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

.env: | $(BIN)/python
	@$(BIN)/python -m config.first_start

# The official npm package, for the tests that use it; without Node they are skipped.
npm: tests/sdk/npm/node_modules/.package-lock.json
tests/sdk/npm/node_modules/.package-lock.json: tests/sdk/npm/package-lock.json
	@if command -v npm >/dev/null; then cd tests/sdk/npm && npm ci --ignore-scripts --no-audit --no-fund --silent; fi
