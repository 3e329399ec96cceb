# The tasks of this repository. Needed: make, and Python 3.11 or later. All goes into .venv.
#
#   make test            lint, types, arrows and every test: what CI runs
#   make test ARGS=...   the same, with arguments for pytest:  make test ARGS="tests/tidy -x"
#   make test-postgres BIN_DIR=/usr/lib/postgresql/15/bin
#                        the tests of the storage on another version of PostgreSQL
#   make check           lint, types and arrows only
#   make format          fix what can be fixed by itself
#   make simulate SEEDS=1000000
#                        clusters under faults, for as long as one likes, on all cores
#   make mutants         bugs planted into the engine, to see that the simulation finds them
#   make demo            run the demo
#   make bench           run the benchmarks
#   make coverage        the tests, and what they leave out
#   make lock            pin the newest versions of the development tools
#   make clean           remove everything that make made
#
# Another Python:  make PYTHON=python3.13 VENV=.venv-3.13 test

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
SEEDS ?= 20000

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEV := $(VENV)/.dev-installed
DEMO := $(VENV)/.demo-installed

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:
.PHONY: test test-postgres check format simulate mutants demo bench coverage lock clean

test: check
	$(BIN)/python -m pytest $(ARGS)

test-postgres: $(DEV)
	FENBU_TEST_POSTGRES_BIN=$(BIN_DIR) $(BIN)/python -m pytest tests/conformance tests/scenario -k postgres $(ARGS)

# lint-imports without its cache, which does not see that a module has been added.
check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

simulate: $(DEV)
	$(BIN)/python -W ignore -m tests.simulation --seeds $(SEEDS) $(ARGS)

mutants: $(DEV)
	$(BIN)/python -W ignore -m tests.simulation.plant $(ARGS)

demo: $(DEMO)
	$(BIN)/fenbu demo $(ARGS)

bench: $(DEV)
	$(BIN)/python benchmarks/all.py $(ARGS)

coverage: $(DEV)
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report

lock: $(DEV)
	$(PIP) install uv
	$(BIN)/uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 \
		--upgrade --no-annotate --custom-compile-command "make lock" --quiet -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment, installed anew only when what it is made from has changed.

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "fenbu needs Python 3.11 or later, and '$(PYTHON)' was not found." \
			"Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fenbu needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1)." \
			"Install one, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }

$(DEV): requirements-dev.lock pyproject.toml | $(BIN)/python
	$(PIP) install -r requirements-dev.lock
	$(PIP) install --no-deps --editable .
	@touch $@

# With what is locked as it is locked; the data's own needs are the newest.
$(DEMO): requirements-dev.lock pyproject.toml | $(BIN)/python
	$(PIP) install --constraint requirements-dev.lock --editable '.[demo]'
	@touch $@
