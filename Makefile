# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both make .venv first, once; `make clean` removes it.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# What mypy and the documentation read as one package, whatever this folder is called.
ROOMS := analysis checks demo embedding operators panels pictures report storage

# The demo's FiftyOne sees this checkout as its only plugin, whatever else is installed.
export FIFTYONE_PLUGINS_DIR := $(CURDIR)/$(VENV)/plugins
export FIFTYONE_DO_NOT_TRACK := true
export FIFTYONE_PLUGINS_CACHE_ENABLED := true

# Tests run in one process more than there are cores, up to four, each file in one of them: those of
# the App wait for a browser.
SIDE_BY_SIDE = -n $(shell $(PYTHON) -c "import os; print(min(4, 1 + os.cpu_count()))") \
	--dist loadfile --no-loadscope-reorder

# Of the fast tests; code that numba compiles does not count as run.
COVERAGE = --cov --cov-report= --cov-fail-under=68

.PHONY: demo app test check coverage offline battery docs clean

demo: $(VENV)/ready  ## load a dataset, compute everything on it, print what was found
	@$(RUN) -m fiftyone_embedding_quality.demo

app: $(VENV)/ready  ## open FiftyOne's App on the demo's dataset
	@$(RUN) -m fiftyone_embedding_quality.demo --app

test: $(VENV)/ready  ## run all tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest $(SIDE_BY_SIDE)

check: $(VENV)/ready  ## run the fast tests: no browser, every operator at least once
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest $(SIDE_BY_SIDE) -m "not browser and not slow and not battery" $(COVERAGE)

coverage: ## the same on any Python, with the lines that these tests leave out
	@$(MAKE) check COVERAGE="--cov --cov-report=term-missing:skip-covered"

offline: $(VENV)/ready  ## run all tests in a network namespace without a route (Linux)
	unshare --user --map-root-user --net sh -c "ip link set lo up && $(MAKE) test"

battery: $(VENV)/ready  ## run the tests that `make test` leaves out: long
	$(VENV)/bin/pytest $(SIDE_BY_SIDE) -m battery

docs: $(VENV)/ready  ## build the documentation into site/, links checked
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(VENV)/bin/mkdocs build --strict

$(VENV)/ready: pyproject.toml requirements.txt demo/database.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 12) or sys.exit(f"Python 3.10, 3.11 or 3.12 is needed, this is {v[0]}.{v[1]}; name one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[dev]"
	mkdir -p $(VENV)/plugins/@embedding
	ln -sfn "$(CURDIR)" $(VENV)/plugins/@embedding/quality
	mkdir -p $(VENV)/types/fiftyone_embedding_quality
	ln -sfn $(addprefix "$(CURDIR)"/,$(ROOMS) *.py) $(VENV)/types/fiftyone_embedding_quality/
	$(RUN) -m fiftyone_embedding_quality.demo.database
	touch $@

clean:
	rm -rf $(VENV) site build *.egg-info
