# Tallyclerk: `make help` says what there is. Needs Linux, Python 3.11 or 3.12, Java 17, Maven; no root, no container engine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
STACK := $(PY) -m stack

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  ./airflow ...     the airflow command, against this stack: ./airflow dags trigger retail_daily"

.PHONY: run
run: install ## from nothing to yesterday's KPIs: install, start all, seed the shop, run retail_daily; leaves it running
	@$(STACK) run

.PHONY: install
install: ## make .venv and .venv-spark from the hashed locks (quick when nothing changed)
	@scripts/install.sh

.PHONY: up
up: install ## start every service that does not run (ONLY="hdfs cassandra" for some)
	@$(STACK) up $(ONLY)

.PHONY: down
down: install ## stop them; their data stays
	@$(STACK) down $(ONLY)

.PHONY: status
status: install ## state, pid, memory and ports of each service
	@$(STACK) status

.PHONY: reset
reset: install ## stop them and delete data and logs (asks; YES=1 does not)
	@$(STACK) reset $(if $(YES),--yes)

.PHONY: doctor
doctor: ## what this machine lacks (Java, ports, memory, disk), and how to get it
	@"$$(scripts/install.sh python)" -m stack.doctor

.PHONY: urls
urls: install ## addresses of the user interfaces
	@$(STACK) urls

.PHONY: shell
shell: install ## a shell in which airflow, spark-submit and python are this project's
	@set -a; eval "$$($(STACK) env)"; exec "$${BASH:-bash}" --norc

.PHONY: test
test: install lint typecheck ## everything CI runs, against real services: starts what is missing, stops what it started
	@$(STACK) test

.PHONY: test-long
test-long: install ## the tests that take many minutes: a week's backfill through the real scheduler, faults by the dozen
	@TALLYCLERK_BACKFILL_DAYS=$${TALLYCLERK_BACKFILL_DAYS:-7} $(STACK) test -- -m "system or long"

.PHONY: test-dags
test-dags: install ## only the DAG integrity and policy tests
	@$(PY) -m pytest tests/dags

.PHONY: lint
lint: install ## ruff: rules and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

.PHONY: format
format: install ## let ruff repair what it can
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

.PHONY: typecheck
typecheck: install ## mypy
	@$(PY) -m mypy

.PHONY: docs
docs: install ## build the documentation's site, strictly, into build/site
	@scripts/install.sh docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

.PHONY: bench
bench: install ## measure ours against the usual ways, side by side
	@$(STACK) up
	@set -a; eval "$$($(STACK) env)"; $(PY) -m bench

.PHONY: lock
lock: ## renew the hashed locks from pyproject.toml
	@scripts/lock.sh
