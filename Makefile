# Two commands do everything on a fresh machine with Python 3.11 and a network: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: demo test check bench format clean

demo: .venv/installed  ## from nothing to a trained, measured, exported BERT; options: make demo ARGS="--minutes 10"
	$(BIN)/nemo-bert demo $(ARGS)

test: .venv/installed-dev  ## every test
	$(BIN)/python -m pytest

check: .venv/installed-dev  ## format, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m "not slow"

bench: .venv/installed-dev  ## a training step beside Hugging Face's; options: make bench ARGS="--shapes base128"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/step.py $(ARGS)

format: .venv/installed-dev  ## what `check` wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## forget the environment and everything that was trained
	rm -rf .venv outputs

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
