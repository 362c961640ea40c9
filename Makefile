PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-portable lint docs bench leaderboard install

# Draws the data, trains SEN on it from the shipped tiny towers, evaluates and shows the result.
demo: install
	$(BIN)/python tools/demo.py

# TESTS picks some, for instance TESTS='-m numeric'.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 $(TESTS)

# Other instruction sets and numbers of threads; with OLDEST=/path/to/python also the oldest versions.
test-portable: install
	$(BIN)/python tests/portable.py $(TESTS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# The pages of docs/, with every warning an error and links checked; open site/index.html.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Times everything against a plain reference on the CPU and writes docs/benchmarks.md.
bench: install
	$(BIN)/python benchmarks/run_all.py

# Trains every method on the drawn people, hours; goes on where it stopped. Writes docs/results.md.
leaderboard: install
	$(BIN)/python tools/leaderboard.py

install: $(VENV)/.installed

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
