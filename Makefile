# Each target works from nothing: it makes the virtual environment, installs, and runs.

PYTHON ?= python3
VENV ?= .venv
# Processes that share the tests; 0 runs them in one. Neighbours stay together, as files and families share fixtures.
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Processors of some families need torchvision, which has no build for a CPU-only torch: the tests of these families see
# it in a folder of its own, without the operators that nobody calls; all else runs without it, as it does for a user.
VISION := $(VENV)/torchvision
VISION_PACKAGES := torchvision==0.28.0 num2words==0.5.14

.PHONY: demo test check lint types imports format clean

demo: $(READY)  ## teach the embedded model five skills in a row
	$(BIN)/lmmcl fit --config configs/seq.yaml

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS) --ignore tests/families
	PYTHONPATH=$(VISION) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS) -p tests.families.torchvision_operators tests/families

check: lint types imports test

lint: $(READY)
	$(BIN)/ruff check lmmcl tests
	$(BIN)/ruff format --check lmmcl tests

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff check --fix lmmcl tests
	$(BIN)/ruff format lmmcl tests

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# The environment is made anew when what it is made from changes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lmmcl needs Python 3.11 or later: make PYTHON=python3.11")'
	@echo "Installing into $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --target $(VISION) $(VISION_PACKAGES)
	@touch $@
