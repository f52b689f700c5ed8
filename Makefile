# Two commands do it all: `make mine` and `make test`. Each sets itself up in .venv first.
# Needs Python 3.11 or newer with venv, make, and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS ?= dev

.PHONY: mine test test-all test-gpu real-nodes check bench bench-compare clean
.DELETE_ON_ERROR:

# Mine ten blocks on the local chain with the best device; run it again to go on.
mine: $(VENV)/ready
	$(BIN)/miner mine --blocks 10
	$(BIN)/miner chain verify

# Every test that needs no GPU.
test: $(VENV)/ready-$(EXTRAS) real-nodes
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not gpu and not slow" -q

# Also the minutes-long ones.
test-all: $(VENV)/ready-$(EXTRAS) real-nodes
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not gpu" -q

# Two real nodes to test against, fetched once. Where that fails their tests are skipped, and say so.
real-nodes: $(VENV)/ready-$(EXTRAS)
	@$(BIN)/python -m tests.realnode fetch || true

# On a machine with a card; skips with a reason on any other.
test-gpu: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pytest -m gpu -q -rs

check: $(VENV)/ready-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/mypy miner kernels bench

# Every device of this machine: table, JSON, HTML page and picture in bench/results, and the README's table.
bench: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m bench --sweep threads --save bench/results
	$(BIN)/python -m bench readme

# The pytest-benchmark suites, against the run before if there was one.
bench-compare: $(VENV)/ready-$(EXTRAS)
	$(BIN)/python -m pytest bench --benchmark-autosave $(if $(wildcard .benchmarks/*/*.json),--benchmark-compare --benchmark-compare-fail=min:10%)

# The environment: what mining needs, and what the tests and the benchmark need on top.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("nonceforge needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) (once)..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[numba]'
	@touch $@

$(VENV)/ready-%: pyproject.toml | $(VENV)/bin/python
	@echo "installing the [$*] extra into $(VENV) (once)..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(VENV)/ready

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
