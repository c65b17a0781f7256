# `make demo` runs the main job, `make test` passes the tests; each makes its own .venv on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint long hub venv clean

demo: venv
	$(BIN)/fsearch run plans/demo.yaml --state state/demo

test: venv
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

long: venv
	$(BIN)/python -m pytest -m long

# Every task that reads the Hugging Face Hub, once and small, against the real hub. It downloads about 620 MB
# into the hub's cache (HF_HOME says where): HotpotQA 359, protein secondary structures 139, protein contacts
# 97, the rest (SQuAD, WikiText-2, ARC, MBPP) below 30 together; then it trains for some minutes on the CPU.
# What cannot be had is in the report, state/hub/report.txt, and the rest goes on. After an outage give it again.
hub: venv
	@mkdir -p state/hub
	$(BIN)/fsearch check plans/hub.yaml --data --state state/hub > state/hub/report.txt || \
	  { code=$$?; test $$code -eq 1 || { cat state/hub/report.txt; exit $$code; }; }
	$(BIN)/fsearch run plans/hub.yaml --state state/hub
	$(BIN)/fsearch report plans/hub.yaml --state state/hub >> state/hub/report.txt
	@echo "fsearch: what was found is in state/hub/report.txt"

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
