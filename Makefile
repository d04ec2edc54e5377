# The two commands to begin with: `make quickstart` and `make test`. Each builds .venv when it is missing.

PYTHON ?= $(shell for name in python3 python3.12 python3.13 python3.14; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$name && break; done)
READY := .venv/ready
BIN := .venv/bin
# Compilers for hardware that is not there are kept apart: they would announce themselves to every user.
AOT := .venv-aot
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Tests that need what a machine may not have are asked for by their own targets.
QUICK := not slow and not gpu and not aot and not notebook
ALL := not gpu and not aot

.PHONY: quickstart test test-all test-aot check format docs wheel clean

quickstart: $(READY)
	$(BIN)/dnabert2 quickstart $(if $(FASTA),--fasta $(FASTA))

test: $(READY)
	$(BIN)/pytest -n auto -m "$(QUICK)"

test-all: $(READY)
	$(BIN)/pytest -n auto --maxschedchunk 1 -m "$(ALL)"

test-aot: $(AOT)/ready
	JAX_PLATFORMS=cpu $(AOT)/bin/pytest -n 2 --dist loadfile -m aot tests/aot

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)
	$(BIN)/mkdocs build --strict

wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf .venv $(AOT) dist build site quickstart

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.12 or newer is needed; name it with make PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --editable ".[test,tools,docs]"
	touch $(READY)

$(AOT)/ready: pyproject.toml constraints.txt $(READY)
	$(BIN)/python -m venv $(AOT)
	$(AOT)/bin/python $(PIP) --editable ".[test,aot]"
	touch $(AOT)/ready
