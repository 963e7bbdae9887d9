# Everything that a person types. The work itself is in the `adinsights` command and in scripts/.
#
# Paths are relative on purpose: the folder's own path may hold spaces. PYTHON=/path/to/python3.11 chooses the
# interpreter of a new .venv; ARGS="..." is handed on to the command behind up, demo, test, soak and run-dbt.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
export PYTHON

ADINSIGHTS := .venv/bin/adinsights
BENCHMARKS := $(filter-out _%,$(notdir $(basename $(wildcard benchmarks/*.py))))

.PHONY: help install up down demo run-dbt test soak lint bench docs lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: ## make .venv and .venv-connectors from the hashed pins, and parse the dbt project, when either changed
	@scripts/install.sh
	@$(ADINSIGHTS) dbt prepare

up: install ## start the local stack with its automation; Dagster UI on http://127.0.0.1:3000
	@$(ADINSIGHTS) local up $(ARGS)

down: ## stop the local stack
	@if [ -x $(ADINSIGHTS) ]; then $(ADINSIGHTS) local down; else echo "nothing is installed here, so nothing runs"; fi

demo: install ## one cycle without the UI: sync, build, publish, with a table at the end
	@$(ADINSIGHTS) local demo $(ARGS)

run-dbt: install ## build every dbt model now, recorded as a Dagster run, and publish the run results
	@$(ADINSIGHTS) dbt build $(ARGS)

test: install ## the tests
	@.venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

soak: install ## the long suites
	@.venv/bin/python -m pytest -m soak --timeout 3600 $(ARGS)

lint: install ## ruff, mypy, hadolint and sqlfluff
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/hadolint deploy/Dockerfile
	@.venv/bin/python scripts/lint_sql.py

bench: install ## the benchmarks, one JSON line each
	@set -e; for name in $(BENCHMARKS); do .venv/bin/python -m benchmarks.$$name; done

docs: install ## write docs/settings.md, and dbt's own pages to dbt_project/target/static_index.html
	@.venv/bin/python scripts/docs.py

lock: ## renew the hashed pins from pyproject.toml and requirements/*.in (UPGRADE=1: newest of everything)
	@scripts/lock.sh

clean: down ## remove the environments, caches and the local stack's data
	@if [ -L .local/postgres ]; then rm -rf "$$(readlink .local/postgres)"; fi
	rm -rf .venv .venv-connectors .venv-lock .local .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf dbt_project/target dbt_project/logs
