# `make` alone prints what there is. Every target sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup run test check format generate soak bench lock clean

BIN := .venv/bin
# Processes that run tests side by side.
WORKERS ?= 4
# For `make run ARGS="--port 9000"`, `make test ARGS="tests/domain -k overlap"`.
ARGS ?=
export PYTHON
# Tests start hundreds of servers: each would compile the whole package anew where this is set.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1\t\2/' | \
		while IFS=$$'\t' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

setup: ## Make .venv with the locked packages (PYTHON=... names the interpreter)
	@scripts/setup

run: setup ## Serve MCP on http://127.0.0.1:8787/mcp; needs no PostgreSQL, no Docker, no Redis
	@exec $(BIN)/quaymaster serve $(ARGS)

test: setup ## Run all tests, the long suites as a sample
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: setup ## Lint, format, types, import walls, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m mcp_server.app.generated --check

format: setup ## Rewrite the code in the agreed format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: setup ## Write what is made from code: docs/settings.md, docs/tools.md, .env.example, registry/schemas
	@$(BIN)/python -m mcp_server.app.generated --write

soak: setup ## Run all tests, the long suites whole (hours)
	@$(BIN)/python -m pytest --soak --timeout 0 $(ARGS)

bench: setup ## Measure against the yardsticks; prints a table, writes JSON
	@$(BIN)/python -m benchmarks $(ARGS)

lock: ## Renew requirements.lock from pyproject.toml (ARGS=--upgrade for the newest)
	@scripts/lock $(ARGS)

clean: ## Remove .venv and caches; never the state of an installation
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
