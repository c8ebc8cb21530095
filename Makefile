# What a reader or a developer runs; `make help` lists it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?= -n 2 --dist loadfile
BENCH ?= env

RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install --progress-bar off

# One thread per process: the networks and arrays are small, and the work is spread over processes instead.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help setup demo test test-slow test-live lint types bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "  TORCH_INDEX=URL picks the index torch comes from (CPU or CUDA build), PYTHON=... the interpreter"

setup: $(STAMP)  ## make .venv with the pinned versions; does nothing when it is up to date

# torch comes first and alone: the build that is present then stays, and its index may not hold the other pins.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: '$(PYTHON)' is not Python 3.11 or newer; install it or pass PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV): about 2 GB, a few minutes"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) $(shell grep '^torch==' constraints.txt) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) --editable '.[dev]' --constraint constraints.txt
	@$(get-chromium)
	@touch $@

# The report is also tested by clicking in a headless browser. Without one those tests are skipped.
define get-chromium
command -v chromium >/dev/null || { \
	test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing chromium for the report's tests" && \
	timeout 300 sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium' \
		>$(VENV)/chromium.log 2>&1; \
} || echo "no chromium: the report's browser tests will be skipped"
endef

demo: setup  ## train a small PPO and compare it with the rules on chat traffic; prints where the report is
	$(RUN) -m experiments demo

test: setup  ## the tests, without those that take minutes
	$(RUN) -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: setup  ## the tests that take minutes
	$(RUN) -m pytest -m slow $(PYTEST_ARGS)

# Servers and clients of other languages; what cannot be had is said, and its tests are skipped with the reason. A dozen
# processes on two cores meet deadlines that have nothing to do with what is tested: a test has three attempts, and the
# closing line counts those it needed.
LIVE_EXTRAS := live,keda,ray,demo,export,kubernetes
LIVE_PACKAGES := grpcio-tools
LIVE_DEBIAN := prometheus nodejs npm

test-live: setup  ## the tests with real servers; installs Prometheus, Node and the extras first
	@$(PIP) --editable '.[$(LIVE_EXTRAS)]' $(LIVE_PACKAGES) --constraint constraints.txt || \
		echo "the extras $(LIVE_EXTRAS) cannot be installed: tests that need them will be skipped"
	@$(get-servers)
	@$(get-node-packages)
	RLSCALE_LIVE=1 $(RUN) -m pytest tests/live -m live --reruns 2 --reruns-delay 5

define get-servers
command -v prometheus >/dev/null && command -v node >/dev/null && command -v npm >/dev/null || { \
	test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing $(LIVE_DEBIAN)" && \
	timeout 600 sh -c 'apt-get -qq update && for name in $(LIVE_DEBIAN); do \
		command -v "$$(echo $$name | sed s/nodejs/node/)" >/dev/null || \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$name || exit 1; done' \
		>$(VENV)/servers.log 2>&1; \
} || echo "not all of $(LIVE_DEBIAN): tests that need the others will be skipped; see $(VENV)/servers.log"
endef

define get-node-packages
command -v npm >/dev/null && timeout 300 npm ci --prefix tests/live/keda --ignore-scripts --no-audit --no-fund --silent \
	|| echo "no npm packages: the tests of the KEDA client will be skipped"
endef

lint: setup  ## ruff: rules and format
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: setup  ## mypy, strict
	$(RUN) -m mypy

bench: setup  ## speed of the simulator on this machine
	$(RUN) -m experiments bench $(BENCH)

clean:  ## remove what the tools left behind; .venv, results and downloads stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
