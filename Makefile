# Two commands: make demo, make test. Each makes its own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
N ?= 100000

.PHONY: demo test lint types imports unit slow kill fuzz pictures bench bench-classes bench-questions bench-state bench-bands bench-peer validation docs site ui clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/tierline demo

test: lint types imports unit

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed
	$(BIN)/mypy

imports: $(VENV)/.installed
	$(BIN)/lint-imports
	DAGSTER_HOME=$(CURDIR) $(BIN)/dg check defs

# Two processes for two cores: a process that uses both only waits for the other. Fixtures are made once per module.
unit: $(VENV)/.installed
	POLARS_MAX_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder

# What takes long, and every example of the properties that `make test` tries a share of (tests/examples.py).
slow: $(VENV)/.installed
	EXAMPLES=all POLARS_MAX_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder \
		-m 'slow or hypothesis'

# 5,000 mutated files of every layout.
fuzz: $(VENV)/.installed
	EXAMPLES=all POLARS_MAX_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 tests/test_fuzz.py

# 200 runs killed at a random moment, and at every named boundary; one in `make test` (tests/test_kills.py).
kill: $(VENV)/.installed
	$(BIN)/pytest tests/test_kills.py -m 'slow or not slow'

docs: $(VENV)/.installed
	$(BIN)/python -m schemas.dictionary

# The documentation as a site in build/site; a dead link or a page nobody leads to stops it.
site: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml

# The pictures of README and docs, of the demo district, with a browser.
pictures: demo
	TIERLINE_PICTURES=$(CURDIR)/data $(BIN)/pytest tests/test_pictures.py

bench: bench-classes
	$(BIN)/python -m benchmarks.load --students $(N)

bench-classes: $(VENV)/.installed
	$(BIN)/python -m benchmarks.classes

# One statistic, then the declared set; what takes longest begins.
bench-state: $(VENV)/.installed
	$(BIN)/python -m benchmarks.suppression --statistics need
	$(BIN)/python -m benchmarks.suppression --statistics cycle_outcome tier need class_decision

# The declared set as the public gets it: one window in bands.
bench-bands: $(VENV)/.installed
	$(BIN)/python -m benchmarks.suppression --mode bands --windows 1 --statistics cycle_outcome tier need class_decision

# The peer writes true counts to log files: made-up tables alone, in a folder that is removed.
bench-peer: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peer]'
	$(BIN)/python -m benchmarks.suppression --peer

bench-questions: $(VENV)/.installed
	$(BIN)/python -m benchmarks.questions

# The study's data are an extra: everything else works without them.
validation: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,validation]'
	$(BIN)/python -m benchmarks.validation
	$(BIN)/pytest tests/test_validation.py -m 'slow or not slow'

ui: $(VENV)/.installed
	$(BIN)/tierline ui

clean:
	rm -rf $(VENV) .dagster data build dist .mypy_cache .ruff_cache .pytest_cache
