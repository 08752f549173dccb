# Every target makes what it needs; `make compare` and `make test` both work as the first command in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch first and alone, at the pinned version: with it in place, no other package replaces it
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: compare test test-arviz1 lint docs bench clean

compare: $(VENV)/.base
	$(BIN)/probseq compare

test: $(VENV)/.test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# ArviZ 1.x needs Python 3.12: its tests run in a small environment of their own, without torch.
ARVIZ1 := .venv-arviz1
PYTHON312 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python) python3.12)

test-arviz1: $(ARVIZ1)/.ready
	$(ARVIZ1)/bin/python tests/without_torch.py tests/test_export_arrays.py

$(ARVIZ1)/.ready:
	@$(PYTHON312) -c "import sys; sys.exit(sys.version_info[:2] != (3, 12))" 2>/dev/null || \
	{ echo "make test-arviz1 needs Python 3.12, which '$(PYTHON312)' is not; name one: make test-arviz1 PYTHON312=/path/to/python3.12"; exit 1; }
	$(PYTHON312) -m venv $(ARVIZ1)
	$(ARVIZ1)/bin/pip install --quiet --disable-pip-version-check "arviz>=1.1,<2" numpy pytest
	touch $@

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -j 2 -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.bench
	$(BIN)/python -m pytest -q -o addopts= -o filterwarnings=default --confcutdir tests/benchmarks tests/benchmarks --benchmark-columns=min,mean,rounds --benchmark-sort=min

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test $(VENV)/.docs $(VENV)/.bench: $(VENV)/.%: $(VENV)/.base
	$(INSTALL) --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) $(ARVIZ1) docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
