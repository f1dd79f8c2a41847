# `make demo` and `make test` need nothing but make, a C++ compiler and Python 3.10 or 3.11 (or uv).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-full lint docs bench zoo clean lock

VENV := .venv
BIN := $(VENV)/bin
# Ours, with its build tools; a Python without venv is no candidate.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))
PYTEST_WORKERS ?= auto
# Tests start many processes: each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1  - /'

$(BIN)/python:
	@for python in python3.11 python3.10 python3; do \
	  if $$python -c '$(USABLE)' 2>/dev/null; then \
	    echo "creating $(VENV) with $$($$python --version)"; $$python -m venv $(VENV) && exit 0; fi; done; \
	if command -v uv >/dev/null; then uv venv --seed --python 3.11 $(VENV) && exit 0; fi; \
	echo "make: no Python 3.10 or 3.11 with venv found; install one (Debian: apt-get install python3.11-venv) or uv" >&2; exit 1

# What is installed follows from these files; the stamps make a second call instant.
$(VENV)/.demo: $(BIN)/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[sim]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## train, convert and verify on the embedded sample: runs/demo/report.html
	$(BIN)/l1kd run l1toy --run runs/demo

test: $(VENV)/.dev ## the tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -m "not full"

test-full: test ## the tests, then those that are a matter of number
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -m full

lint: $(VENV)/.dev ## ruff and mypy --strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.dev ## the documentation's site, build/docs/index.html; needs Python 3.11
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo build/docs/index.html

bench: $(VENV)/.dev ## what takes long: recorded in tests/benchmarks/results/
	$(BIN)/python -m pytest -q -p no:xdist tests/benchmarks/bench_*.py

zoo: $(VENV)/.dev ## every student in every kind of project: the table in docs/results.md
	$(BIN)/python -m tests.benchmarks.bench_zoo

lock: ## pin what CI uses, for both Pythons, and the oldest that is declared
	uvx --from uv uv pip compile --quiet --universal --python-version 3.10 --all-extras \
	  --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	uvx --from uv uv pip compile --quiet --resolution lowest-direct --python-version 3.10 \
	  --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements-oldest.txt

clean: ## remove the environment, runs and caches
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find hls_projects -mindepth 1 -maxdepth 1 -type l -delete
