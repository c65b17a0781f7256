# `make demo` runs the main job, `make test` passes the tests; each makes its own .venv on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint long venv clean

demo: venv
	$(BIN)/fsearch run plans/demo.yaml --state state/demo

test: venv
	$(BIN)/python -m pytest -m "not long"

long: venv
	$(BIN)/python -m pytest -m long

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

venv: $(STAMP)

# torch comes first and by its exact version: a bare `torch` would pull gigabytes of CUDA where the
# pinned one is a CPU build.
$(STAMP): pyproject.toml requirements/run.txt requirements/dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "fsearch: $(PYTHON) is missing: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fsearch: $$($(PYTHON) -V) is too old: install Python 3.11 or newer, or say make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "fsearch: this Python cannot make virtual environments: install python3-venv"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "fsearch: no C++ compiler: install g++ (Debian: apt-get install g++)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements/run.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

clean:
	rm -rf $(VENV) state/demo
