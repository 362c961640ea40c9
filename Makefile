PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench install

# Draws the data, pretrains tiny towers, trains SEN on them, evaluates and shows the result.
demo: install
	$(BIN)/python tools/demo.py

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Times everything against a plain reference on the CPU and writes docs/benchmarks.md.
bench: install
	$(BIN)/python benchmarks/run_all.py

install: $(VENV)/.installed

$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
