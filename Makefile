# Two commands do everything on a fresh machine with Python 3.11 and a network: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Three at a time on two cores, one thread each: many wait for processes of their own, or for time to pass.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

# Python compiles what it imports and keeps it; pip would spend half of its time on compiling all there is.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable

.PHONY: demo test check chaos bench format clean

demo: .venv/installed  ## from nothing to a trained, measured, exported BERT; options: make demo ARGS="--minutes 10"
	$(BIN)/nemo-bert demo $(ARGS)

test: .venv/installed-dev  ## every test
	$(PYTEST)

check: .venv/installed-dev  ## format, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow"

chaos: .venv/installed-dev  ## kills, signals, damage and full disks, thousands of times; options: make chaos ARGS="--share 0.1"
	$(BIN)/python -m tests.faults.chaos $(ARGS)

bench: .venv/installed-dev  ## the step beside Hugging Face's, real runs beside it, and --minutes: two hours, and a record
	$(INSTALL) '.[bench]'
	$(BIN)/python benchmarks/record.py $(ARGS)

format: .venv/installed-dev  ## what `check` wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## forget the environment and everything that was trained
	rm -rf .venv outputs

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) '.[dev]'
	touch $@
