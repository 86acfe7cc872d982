# Every target sets up what it needs; `make up` and `make test` work on a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
COMPILE := uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -q pyproject.toml

.PHONY: lock
lock: .venv/dev  ## Pin every version again, with hashes and without index addresses
	$(BIN)/$(COMPILE) --extra build -o requirements.lock --upgrade
	$(BIN)/$(COMPILE) --extra build --extra dev -c requirements.lock -o requirements-dev.lock --upgrade

# Ray starts twice as fast from compiled files, and PYTHONDONTWRITEBYTECODE may forbid writing them later.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/ready requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	touch $@
