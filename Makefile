# Sets itself up in .venv on first use; `make demo`, `make test`, `make check` and `make docs` are all there is to know.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test coverage slow check docs format dist installed

# the whole job on data and a backbone that come with the project
demo: $(INSTALLED)
	$(BIN)/python recipes/demo/run.py

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" $(TEST_OPTIONS)

# the same, half as long again, with what it does not reach
coverage: TEST_OPTIONS = --cov --cov-report=term --cov-fail-under=90
coverage: test

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml

# the site, in site/; a warning is an error
docs: $(INSTALLED)
	$(BIN)/zensical build --clean --strict

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# wheel and source distribution, in dist/
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

# both, each in an environment of its own with dependencies from the package index, used from outside the checkout
installed: dist
	$(BIN)/python tests/distributions.py dist/*

# dependency groups need pip 25.1
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev --editable '.[bands,demo,export,lora]'
	touch $@
