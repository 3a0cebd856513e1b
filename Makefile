# Install, run, test and check Pointsman. `make` lists what there is. Needs Python 3.11 with venv, git and make.

PYTHON ?= python3.11
# An index of packages to find torch in, for machines where pip's own would bring the CUDA build: see the README.
TORCH_INDEX ?=
# Arguments of `pointsman up` and of pytest: make up ARGS="--port 9000", make test ARGS="tests/unit -x"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements/base.txt requirements/engine-cpu.txt requirements/engine-no-deps.txt
BUILD := pyproject.toml hatch_build.py $(sort $(wildcard router/pointsman/router/predictor/*.[ch]))
STAMP := $(VENV)/.installed-$(shell cat $(LOCKS) $(BUILD) 2>/dev/null | cksum | tr ' ' '-')

PIP_INSTALL := $(BIN)/python -m pip install --no-deps --no-compile
# With all cores, where pip would take one. A few files of the packages are templates, not Python: hence `|| true`.
COMPILE = $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true

PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install up test test-integration test-engine test-beside tools bench soak lint format clean
.DEFAULT_GOAL := help

help: ## List the targets.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv with everything pinned; instant where that is done.

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing: install it (Debian: python3.11 python3.11-venv) or set PYTHON." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing (Debian: python3.11-venv)." >&2; exit 1; }
	@echo "[1/4] Creating $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/4] Installing the platform's packages"
	@$(PIP_INSTALL) -r requirements/base.txt
	@echo "[3/4] Installing the engine's packages (about 3 GB when unpacked)"
	@$(if $(TORCH_INDEX),$(PIP_INSTALL) --index-url $(TORCH_INDEX) $$(grep '^torch==' requirements/engine-cpu.txt))
	@$(PIP_INSTALL) -r requirements/engine-cpu.txt
	@$(PIP_INSTALL) -r requirements/engine-no-deps.txt
	@$(COMPILE)
	@$(BIN)/python -c 'import torch' || { echo "This torch does not run here: set TORCH_INDEX to an index of CPU builds, remove $(VENV) and try again." >&2; exit 1; }
	@echo "[4/4] Installing Pointsman"
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

up: install ## Start the whole platform on this machine: ARGS="--port 9000 --state-dir DIR".
	@exec $(BIN)/pointsman up $(ARGS)

# Both cores are to have work all the time. Most tests of integration wait for processes and take four workers, those
# with the longest files first; the real engines take what one of two cores can give, and the tests beside them the other.
# Compiled before, since hundreds of processes are started; where an environment keeps Python from writing what it
# compiles, pytest is let to: what it has rewritten of tests and plug-ins, the next one need not.
test: install tools ## Install, check and run all tests; ARGS="tests/unit -x" for some.
	@$(BIN)/python -m compileall -qq platform router operators dashboards
ifeq ($(strip $(ARGS)),)
	@$(MAKE) --jobs=2 --output-sync=target lint test-integration
	@$(MAKE) --jobs=2 --output-sync=target test-engine test-beside
else
	@$(MAKE) lint
	$(PYTEST) $(ARGS)
endif

test-integration:
	$(PYTEST) -n 4 --dist loadfile --no-loadscope-reorder -m "not long" tests/integration tests/cluster

test-engine:
	$(PYTEST) tests/engine

test-beside:
	$(PYTEST) tests/browser
	$(PYTEST) tests/unit

bench: install ## Measure the gateway beside its peers: ARGS="--quick --only pointsman,direct,floor".
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.gateway $(ARGS)

soak: install ## The long runs; ARGS=--short for the short ones, about 11 minutes, ARGS="-k drain" for some.
	$(BIN)/python -m pytest -c tests/soak/pytest.ini tests/soak $(ARGS)
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -m long tests/cluster
endif

lint: install ## ruff, mypy and import-linter.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Unpacked, not installed: it is the program that is wanted, not a service that listens.
PROMTOOL := build/tools/usr/bin/promtool
tools: ## Fetch what tests need beside Python: Debian's Prometheus and Chromium, axe-core.
	@{ command -v prometheus && command -v promtool; } >/dev/null || test -x $(PROMTOOL) || { mkdir -p build/tools && cd build/tools \
		&& { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } \
		&& dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb; } \
		|| { echo "Prometheus is missing: install Prometheus (Debian: prometheus)." >&2; exit 1; }
	@tests/browser/fetch.sh

format: install ## Let ruff put the code in order.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and all caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
