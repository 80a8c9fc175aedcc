# Everything a newcomer types. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-docker test fuzz bench bench-full burst chaos check constraints clean

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.plimsoll-setup
# The newest Python that is here, 3.11 at least.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
PIP := $(PY) -m pip --disable-pip-version-check
JSON ?=
COUNT ?= 100000
SEED ?= 0
ONLY ?=
TESTS ?=
FAULTS ?= 50
MESSAGES ?= 1000000
ROUNDS ?= 9
SIZES ?= 1 10 100 500 1000

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with exactly the packages of constraints.txt

$(STAMP): constraints.txt pyproject.toml
	@if [ ! -x $(PY) ]; then \
		[ -n "$(PYTHON)" ] || { echo "make setup: no Python 3.11 or newer with its venv module here;" \
			"install one (Debian, Ubuntu: apt install python3 python3-venv) or name it:" \
			"make setup PYTHON=/path/to/python3.11" >&2; exit 2; }; \
		$(PYTHON) -m venv $(VENV); fi
	$(PIP) install --quiet --require-hashes --only-binary :all: -r constraints.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## a simulated fleet, attacked and answered, on a broker inside the process
	@$(VENV)/bin/plimsoll demo $(if $(JSON),--json)

demo-docker: setup ## the same with real containers on a real Kafka (root, Java 17, Maven)
	@$(PY) -m infra.demo_docker $(if $(JSON),--json)

test: setup ## every test; gets what they need where it may (Kafka's jars, a Docker engine)
	@infra/with_servers.sh $(PY) -m pytest -n 3 --dist loadscope --no-loadscope-reorder $(TESTS)

fuzz: setup ## hostile input for all that reads: make fuzz COUNT=1000000 (SEED=, ONLY=, JSON=1)
	@$(PY) -m tests.fuzz --count $(COUNT) --seed $(SEED) $(if $(ONLY),--only $(ONLY)) \
		$(if $(JSON),--json)

burst: setup ## a minute of twenty times the usual rate: where every sample went (real Kafka)
	@$(PY) -m infra.bench.burst $(if $(AWAY),--away $(AWAY) --spool-mb 1)

chaos: setup ## FAULTS=50 MESSAGES=1000000: kill everything in turn, count what is lost
	@$(PY) -m tests.kafka.chaos --faults $(FAULTS) --messages $(MESSAGES)

bench: setup ## the same job in each engine on one Kafka, within ten minutes (Java 17, Maven)
	@$(PY) -m infra.bench.throughput --minutes 8

bench-full: setup ## the same with more rounds and sizes: ROUNDS=9 SIZES="1 10 100 500 1000"
	@$(PY) -m infra.bench.throughput --rounds $(ROUNDS) --sizes $(SIZES)

check: setup ## ruff, mypy, import directions, the documentation's code blocks
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy models streams producers infra tests notebooks
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q tests/architecture

constraints: ## pin anew what pyproject.toml asks for (needs uv)
	uv pip compile --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --extra dev \
		--output-file constraints.txt pyproject.toml

clean: ## remove what setup, tests and checks made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
