# The commands of the house. Needs Python 3.11+, git and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check format benchmark clean

demo: .venv/.train ## draw a data set, train on it, look at the result: about three minutes with the installation
	$(BIN)/onebox demo

test: .venv/.test ## every test
	$(BIN)/python -m pytest

check: .venv/.test ## format, lint and types, in one go; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/.test ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: .venv/.train ## the figures of docs/log.md, on the real sets: many hours (docs/benchmark.md)
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.check

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("onebox needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/.train: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[train]"
	touch $@

.venv/.test: .venv/.train
	$(PIP) -e ".[train,test]"
	touch $@

clean: ## remove the environment
	rm -rf .venv
