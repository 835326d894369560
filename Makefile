# Everything a developer types. Each target installs what it needs by itself and is quick when that is done.
#
#   make demo                  the product in a minute, on a directory; STORE=s3: on an S3 server of its own
#   make test                  the quick tests, some at a time; ARGS="-k name" goes to pytest, WORKERS=0: one after the other
#   make test-all              all tests; `make servers` first has none of them skipped
#   make test-contract         the contract of Flyte's tasks, on another version of Python that is found here
#   make servers               what some tests talk to: Azurite, and Ceph's S3 gateway
#   make check                 ruff, pyright, import-linter
#   make audit                 looks the dependencies up in the database of known vulnerabilities, where it can be reached
#   make bench                 the benchmark; ARGS="--only create --runs 1"
#   make bench-growth          how costs grow; ARGS="--full"
#   make bench-docs            measures for docs/performance.md and writes it; ARGS="--peer /path/to/juicefs", "--quick"
#   make format                let ruff rewrite the code
#   make clean                 remove everything that these made
#
# PYTHON=/path/to/python3 chooses the interpreter for .venv.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-contract servers check audit format bench bench-growth bench-docs clean

STORE = file
PYTHON =
ARGS =
# Tests wait for processes, servers and disks: one worker more than there are processors keeps those busy.
WORKERS = $(shell expr $$(nproc) + 1)
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
BIN := .venv/bin
export AZURITE_HOME = $(CURDIR)/.servers

export PYTHON
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE VIRTUAL_ENV

help:
	@sed -n 's/^#   //p' Makefile

demo:
	@scripts/setup $(if $(filter s3,$(STORE)),demo-s3)
	@$(BIN)/python examples/demo.py --store '$(STORE)' $(ARGS)

test:
	@scripts/setup dev
	@$(PYTEST) -m "not slow" $(ARGS)

test-all:
	@scripts/setup dev
	@$(PYTEST) $(ARGS)

test-contract:
	@scripts/setup dev
	@scripts/test-contract

servers:
	@scripts/test-servers

check:
	@scripts/setup dev
	@status=0; export PATH="$(CURDIR)/$(BIN):$$PATH"; \
	ruff check . || status=1; \
	ruff format --check . || status=1; \
	pyright || status=1; \
	lint-imports --no-logo || status=1; \
	exit $$status

audit:
	@scripts/setup dev audit
	@$(BIN)/python scripts/audit

format:
	@scripts/setup dev
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench:
	@scripts/setup dev
	@$(BIN)/python benchmarks/volume_benchmark.py $(ARGS)

bench-growth:
	@scripts/setup dev
	@$(BIN)/python benchmarks/growth.py $(ARGS)

bench-docs:
	@scripts/setup dev
	@$(BIN)/python benchmarks/performance_document.py $(ARGS)

clean:
	@awk -v here='$(CURDIR)/' 'index($$2, here) == 1 { print $$2 }' /proc/self/mounts | xargs -r -n 1 fusermount3 -u -z
	@rm -rf --one-file-system .venv .venv-other .demo .bench .servers .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
