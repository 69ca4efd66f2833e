# Everything a developer types. `make` alone prints this list.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Most tests wait for servers more than they compute. Set to 0 to run them in one process.
JOBS ?= 3
# More arguments for pytest; .ci/run asks with them for the tests that have just failed.
AGAIN ?=

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { \
	  line = sprintf("  make %-14s", $$1); count = split($$2, words, " "); \
	  for (i = 1; i <= count; i++) { \
	    if (length(line) + length(words[i]) > 79) { print line; line = sprintf("%21s", "") } \
	    line = line " " words[i] } \
	  print line }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml pattern_storage/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pattern-storage needs Python 3.11 or later; $(PYTHON) is older. Set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.PHONY: setup
setup: $(STAMP) ## create .venv with everything in it

.PHONY: demo
demo: $(STAMP) ## run the main job end to end on real servers, then stop them
	$(BIN)/pattern-storage demo

.PHONY: test
test: $(STAMP) ## run the tests against real PostgreSQL and Valkey, with coverage
	# The slow files first, or one process would still have them when the others are done.
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=20 --cov --cov-report=term tests/integration tests/transport tests/unit $(AGAIN)

.PHONY: test-system
test-system: $(STAMP) ## run what starts many processes or fills memory: services, forks, demo, `up`, each block of the docs
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=10 tests/system $(AGAIN)

# The fault tests whose jobs are executed in groups, unless that is turned off, and the tests of whole workers.
ALONE := $(addprefix tests/fault/test_,$(addsuffix .py, \
  workers group_kills groups deadly_jobs attempts lease replacements shutdowns pools pool_sizes canvas \
  postgresql network redis result_backend relay started expect))
ALONE += $(addprefix tests/integration/test_,$(addsuffix .py,foreign_app reused_ids tasks task_failures))
# Its other tests have no worker.
ALONE += tests/fault/test_relay_servers.py::test_flushed_redis

.PHONY: test-faults
test-faults: test-faults-grouped test-faults-alone ## kill, cut, stall and restart everything under load

.PHONY: test-faults-grouped
test-faults-grouped: $(STAMP)
	# Without coverage: measuring changes how fast the killed die.
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests/fault --ignore tests/fault/test_soak.py $(AGAIN)

.PHONY: test-faults-alone
test-faults-alone: $(STAMP)
	# Jobs one by one: what group execution must keep.
	@TEST_GROUP_EXECUTION=0 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ALONE) $(AGAIN)

.PHONY: test-soak
test-soak: $(STAMP) ## kill, stop and cut everything at random for a minute, or for SOAK_SECONDS; SOAK_SEED repeats a run
	$(BIN)/python -m pytest -q -s -n 0 tests/fault/test_soak.py

.PHONY: test-plans
test-plans: $(STAMP) ## the plans of queries and of ledger, outbox, dead letters and history, on tables of 1,000,000 rows
	PLAN_ROWS=1000000 $(BIN)/python -m pytest -q tests/integration/test_query_plans.py tests/integration/test_bookkeeping_plans.py $(AGAIN)

.PHONY: test-install
test-install: $(STAMP) ## install the wheel into empty environments and use it there, with every extra, Python and example
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations=10 tests/install $(AGAIN)

# Debian's packages of the servers that a deployment may choose, one a line.
SERVER_PACKAGES := \
  docker-compose \
  pgbouncer \
  prometheus \
  rabbitmq-server \
  redis-tools

.PHONY: setup-servers
setup-servers: ## install the servers that tests/servers starts, on Debian as root
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then deploy/install-servers $(SERVER_PACKAGES); \
	else echo "Not root on Debian: install what the skipped tests name yourself ($(SERVER_PACKAGES))."; fi

.PHONY: test-servers
test-servers: $(STAMP) ## run the compose file, upgrades, RabbitMQ, PgBouncer, Sentinel and Prometheus, where installed
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/servers $(AGAIN)

.PHONY: setup-browser
setup-browser: $(VENV)/.browser ## install playwright, and Chromium where we are root on Debian or Ubuntu
	@if ! command -v "$${BROWSER:-chromium}" chromium-browser google-chrome chrome >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; \
	  else \
	    echo "The browser test needs Chromium, which only root can install: sudo apt-get install chromium"; exit 2; \
	  fi; \
	fi

$(VENV)/.browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	@touch $@

.PHONY: test-browser
test-browser: setup-browser ## look at Flower with a real browser
	@$(BIN)/python -m pytest tests/browser $(AGAIN)

.PHONY: screenshots
screenshots: setup-browser ## take the pictures in README and docs again
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser

.PHONY: lint
lint: $(STAMP) ## ruff, mypy --strict, import-linter and deptry
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

.PHONY: format
format: $(STAMP) ## rewrite the code the way ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: schemas
schemas: $(STAMP) ## write docs/schemas: JSON Schema and AsyncAPI of contracts, results and messages
	$(BIN)/python -m pattern_storage.tasks.documents docs/schemas

.PHONY: docs
docs: $(VENV)/.docs ## build the site of docs and API reference in build/docs; any warning fails
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet docs build/docs
	@! grep -rEl '<(script|img|link|iframe)[^>]+(src|href)="(https?:)?//' build/docs --include='*.html' || \
	  { echo "these pages load something from another host"; exit 1; }
	@echo "build/docs/index.html"

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
	@touch $@

$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

.PHONY: bench
bench: $(VENV)/.bench ## measure beside other queues, an hour; writes docs/benchmarks.md and its pictures
	$(BIN)/python -m bench.peers --finals 5 --write

.PHONY: bench-quick
bench-quick: $(STAMP) ## the same in three minutes; fails where a ratio fell by a quarter since make bench
	$(BIN)/python -m bench.peers --quick

.PHONY: bench-batch
bench-batch: $(STAMP) ## compare four ways to write one atomic batch
	$(BIN)/python -m bench.batch_insert

.PHONY: bench-budgets
bench-budgets: $(STAMP) ## measure the latency budgets of the original storage layer; fails where one is exceeded
	$(BIN)/python -m bench.latency_budgets

.PHONY: bench-metrics
bench-metrics: $(STAMP) ## CPU time a job with metrics on and off
	$(BIN)/python -m bench.metrics_cost

.PHONY: bench-install
bench-install: $(STAMP) ## size, packages and import time of the client, for each extra
	$(BIN)/python -m bench.install

.PHONY: bench-import
bench-import: $(STAMP) ## import 1,000,000 rows, against a raw COPY of them
	$(BIN)/python -m bench.imports

.PHONY: bench-outbox
bench-outbox: $(STAMP) ## what the outbox costs the commits of an application, and how fast a relay publishes
	$(BIN)/python -m bench.outbox

.PHONY: bench-growth
bench-growth: $(STAMP) ## the cost of each part at 1,000, 100,000 and 1,000,000 rows, and what a job leaves in Redis
	$(BIN)/python -m bench.growth

.PHONY: bench-pages
bench-pages: $(STAMP) ## how long Flower's pages take at 1,000,000 ledger rows and 100,000 waiting jobs
	$(BIN)/python -m bench.pages

.PHONY: clean
clean: ## remove what make has made
	rm -rf $(VENV) bench/.venvs .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist .coverage .coverage.*
