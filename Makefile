# Works on a fresh machine with Python 3.11 or later, its venv module and make.
# Another Python, beside the first: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
# One core runs the tests, the other one the servers that they talk to.
WORKERS ?= 2
# The one that the tests run on; another one than 18 is the system's.
POSTGRES ?= 18
# What `make bench` passes on: BENCH="--only a,i"
BENCH ?=
# Which tests, as pytest's -m says it.
TESTS ?= not soak

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-only lint format charts generate bench soak mutants peers lock

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Two services and a shared store on this machine
	@$(BIN)/eventferry demo

test: lint test-only ## Lint, then all tests: what CI runs, and you before a commit

test-only: $(INSTALLED) ## All tests, without lint
	@echo "== pytest on PostgreSQL $(POSTGRES), $(WORKERS) at a time"
	@EVENTFERRY_TEST_POSTGRES=$(POSTGRES) $(BIN)/pytest -n $(WORKERS) -m "$(TESTS)"

lint: $(INSTALLED) ## Style, types, layers, and generated files up to date
	@echo "== ruff"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "Not formatted: run make format"; exit 1; }
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-logo > $(VENV)/import-linter.log || { cat $(VENV)/import-linter.log; exit 1; }
	@echo "== generated files"
	@$(BIN)/python tools/async_to_sync.py --check
	@$(BIN)/python -m tools.reference --check

format: $(INSTALLED) ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

charts: $(INSTALLED) ## Helm and linters for deploy/, 400 MB: their tests are skipped without
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-charts.lock

generate: $(INSTALLED) ## The sync modules from the async ones, the Python reference from docstrings
	@$(BIN)/python tools/async_to_sync.py
	@$(BIN)/python -m tools.reference

bench: $(INSTALLED) ## How fast it is, beside what PostgreSQL does alone: leave the machine alone
	@$(BIN)/eventferry bench $(BENCH)

soak: $(INSTALLED) ## Tests that take minutes: a million events, hundreds of faults
	@$(BIN)/pytest -m soak -n 0

mutants: $(INSTALLED) ## Break the code on purpose: the tests must notice
	@$(BIN)/python -m tools.mutants

peers: $(INSTALLED) ## Beside other libraries, on the same PostgreSQL; needs Node, takes minutes
	@$(BIN)/python -m benchmarks.peers

lock: COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header
lock: $(INSTALLED) ## Both locks, from pyproject.toml, with the newest versions
	@$(COMPILE) pyproject.toml --all-extras --group project --output-file requirements.lock
	@$(COMPILE) --group charts --constraint requirements.lock --output-file requirements-charts.lock
	@echo "requirements.lock: $$(grep -c '==' requirements.lock) packages"

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "eventferry needs Python 3.11 or later, $(PYTHON) is not: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/python || { echo "== new environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "== installing what requirements.lock names (about a minute)"
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
