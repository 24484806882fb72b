# Everything done twice has a target here. `make setup` is run by the others when needed.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=

.PHONY: help setup packages demo test test-unit test-acceptance test-vm bench docker-py conformance lint format clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: packages $(STAMP) ## Debian packages (as root) and .venv with windlass and its tools

packages:
	@scripts/packages

$(STAMP): pyproject.toml scripts/hatch_build.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup ## Start a daemon, make an image, run isolated containers; says what it proved
	@$(BIN)/python scripts/demo.py

test: setup ## Lint, then the whole suite, also in a virtual machine; ends by checking that nothing is left behind
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest tests/unit tests/acceptance tests/vm $(PYTEST_ARGS)

test-vm: setup ## In a virtual machine: cgroup v2 alone, AppArmor, an older kernel
	@$(BIN)/python -m pytest tests/vm $(PYTEST_ARGS)

test-unit: setup ## Only what needs neither root nor a daemon
	@$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

test-acceptance: setup ## Real daemon, real kernel, real clients
	@$(BIN)/python -m pytest tests/acceptance $(PYTEST_ARGS)

bench: setup ## Measure beside crun, runc, docker and podman in one run; writes bench/RESULTS.md
	@$(BIN)/python -m bench $(BENCH_ARGS)

docker-py: setup ## docker-py's own integration tests: make docker-py CHECKOUT=path/of/a/clone
	@$(BIN)/python -m pip install --quiet paramiko websocket-client
	@$(BIN)/python scripts/docker_py_suite.py $(CHECKOUT) $(if $(PYTEST_ARGS),-- $(PYTEST_ARGS))

conformance: setup ## Kubernetes' conformance scenarios by their names; ends with a score
	@$(BIN)/python -m pytest tests/conformance $(PYTEST_ARGS)

lint: $(STAMP) ## ruff, mypy strict, import contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports

format: $(STAMP) ## Let ruff arrange the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

clean: ## Remove what setup made
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
