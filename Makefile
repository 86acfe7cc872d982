# Every target sets up what it needs: on a fresh Debian with Python 3.11, make and a package index, as root
# or not, `make up` and `make test` work with nothing installed by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first of these that is a Python which Greenroom runs on.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell \
	$(name) -c 'import sys; print("$(name)" if (3, 11) <= sys.version_info < (3, 14) else "")' 2>/dev/null </dev/null)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
COMPILE := uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -q pyproject.toml
PACKAGES := actors serve_app cluster
, := ,

.PHONY: help
help:  ## List the targets
	@awk -F':.*## ' '/^[a-z.]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Running ------------------------------------------------------------------------------------------------

.PHONY: up
up: .venv/ready  ## Start Greenroom in the foreground; options by ARGS="--port 8001"
	@exec $(BIN)/greenroom up $(ARGS)

.PHONY: down
down: .venv/ready  ## Stop what `make up` or `greenroom up --detach` started
	@$(BIN)/greenroom down $(ARGS)

.PHONY: doctor
doctor: .venv/ready  ## Check what this machine lacks
	@$(BIN)/greenroom doctor $(ARGS)

# Developing ---------------------------------------------------------------------------------------------

.PHONY: test
test: .venv/dev  ## Run every test; options of pytest by ARGS="-k name"
	@.ci/suites $(ARGS)

.PHONY: check
check: .venv/dev  ## Lint, format, types, import rules, lock files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python .ci/locks.py

.PHONY: fmt
fmt: .venv/dev  ## Format, and mend what the linter can
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

.PHONY: bench
bench: .venv/dev  ## Measure, beside a baseline; figures go to bench.json
	$(BIN)/python -m tests.bench.run $(ARGS) </dev/null

SECONDS ?= 600
DATABASE ?= sqlite

.PHONY: chaos
chaos: .venv/dev  ## Break a cluster on purpose and check what it kept; SECONDS=600 SEED=7 DATABASE=postgresql
	@.ci/programs >/dev/null
	$(BIN)/python -m tests.chaos.run --seconds $(SECONDS) --database $(DATABASE) $(if $(SEED),--seed $(SEED)) $(ARGS) </dev/null

BASE ?= python:3.11-slim-bookworm
IMAGE ?= greenroom:0.1.0
DOCKER ?= docker

.PHONY: image
image:  ## Build the image; IMAGE= its name, BASE= another base, PIP_CONF= and CA= files that pip needs here
	DOCKER_BUILDKIT=1 $(DOCKER) build --build-arg BASE=$(BASE) -t $(IMAGE) \
		$(if $(PIP_CONF),--secret id=pip$(,)src=$(PIP_CONF)) $(if $(CA),--secret id=ca$(,)src=$(CA)) $(ARGS) .

.PHONY: lock
lock: .venv/dev  ## Pin every version again, with hashes and without index addresses
	$(BIN)/$(COMPILE) --extra build -o requirements.lock --upgrade
	$(BIN)/$(COMPILE) --extra build --extra dev -c requirements.lock -o requirements-dev.lock --upgrade

.PHONY: clean
clean:  ## Remove what was built here; the data in ~/.greenroom stays
	rm -rf .venv dist test-output bench.json .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installing ---------------------------------------------------------------------------------------------

.PHONY: .venv
.venv: .venv/ready  ## Install what Greenroom runs on, from requirements.lock

# Compiled here, because Ray starts twice as fast from compiled files and PYTHONDONTWRITEBYTECODE may keep
# them from being written later.
.venv/ready: requirements.lock pyproject.toml
	@.ci/venv "$(PYTHON)"
	$(PIP) --compile --require-hashes --no-deps -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q $(PACKAGES)
	touch $@

.venv/dev: .venv/ready requirements-dev.lock
	$(PIP) --compile --require-hashes --no-deps -r requirements-dev.lock
	touch $@
