# `make test` and `make demo` need Python 3.11 or newer and make, nothing else: they make the environment first.
# Any target can be interrupted and called again.

VENV := .venv
RUN := $(VENV)/bin/python -m
ARGS ?=

# The environment is ready when it holds the stamp of these two files in this folder (a moved .venv is installed again).
KEY := $(shell { pwd -P; cat pyproject.toml constraints.txt; } | cksum | cut -d ' ' -f 1)
READY := $(VENV)/.ready-$(KEY)
UNFINISHED := $(VENV)/.unfinished

# The first Python that is new enough and can make environments; 3.11 leads, the pins were resolved on it.
SUITS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$python -c '$(SUITS)' 2>/dev/null && echo $$python && break; done)

.PHONY: help setup test lint format demo demo-quick clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the pinned versions; does nothing when it is ready

test: lint ## Check style and types, then run the tests (ARGS="-k sizes" chooses some)
	$(RUN) pytest -q -n 2 --dist worksteal --durations=5 $(ARGS)

lint: $(READY) ## Check style and types only
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy

format: $(READY) ## Mend style
	$(RUN) ruff check --fix
	$(RUN) ruff format

demo: $(READY) ## Run the demo (ARGS="--quick" passes options on)
	$(VENV)/bin/calora demo $(ARGS)

demo-quick: $(READY) ## Run the demo in its quick form
	$(VENV)/bin/calora demo --quick $(ARGS)

clean: ## Remove caches and build outputs; .venv and runs/ stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that an earlier call left unfinished is made anew, since a package may be half written; one made by hand
# is kept and installed into if it is whole. The mark comes first and stays, so that the removal can be interrupted too.
# WHOLE asks for pyvenv.cfg by its effect: without that file .venv/bin/python is the machine's own Python, and pip would
# install there; --require-virtualenv refuses the same once more.
WHOLE := import pip, sys; sys.exit(sys.prefix == sys.base_prefix)
$(READY):
	@python="$(PYTHON)"; $${python:-false} -c '$(SUITS)' 2>/dev/null || { \
		echo "calora needs Python 3.11 or newer with venv and ensurepip; found: $(or $(PYTHON),none)" >&2; \
		echo "hint: install it, or name it: make $(or $(firstword $(MAKECMDGOALS)),setup) PYTHON=/path/to/python3.11" >&2; \
		exit 2; }
	@if [ -e $(UNFINISHED) ] || ! $(VENV)/bin/python -c '$(WHOLE)' 2>/dev/null; then \
		echo "making $(VENV)"; \
		mkdir -p $(VENV) && touch $(UNFINISHED) && \
		find $(VENV) -mindepth 1 -maxdepth 1 ! -name .unfinished -exec rm -rf {} + && \
		$(PYTHON) -m venv $(VENV); fi
	@touch $(UNFINISHED) && rm -f $(VENV)/.ready-*
	@echo "installing the pinned versions into $(VENV): some minutes the first time"
	$(RUN) pip --require-virtualenv install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench,dev]"
	@mv $(UNFINISHED) $@
