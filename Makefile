# Everything happens in a virtual environment of its own, .venv, which is set up when it is needed and only then.
# GNU make, Python 3.11 or later and pip are all that is used.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help course test slow gpu check docs bench hooks setup-browser setup-postgres setup-kernels

help: ## this list
	@grep -E '^[a-z-]+: .*## ' Makefile | sed -E 's/^([a-z-]+): .*## /\1:/' | while IFS=: read -r name what; do \
		printf '  make %-15s %s\n' "$$name" "$$what"; done

course: $(READY) ## a small model's whole education: courses/first.yaml
	$(BIN)/tutelage run courses/first.yaml

test: $(READY_DEV) ## the tests that take seconds each
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal --durations=10

slow: $(READY_DEV) ## the tests that take minutes each
	$(BIN)/python -m pytest -m 'slow and not gpu' --durations=10

gpu: $(READY_DEV) ## the tests that need a CUDA device, or run on one, too
	$(BIN)/python -m pytest -m 'gpu or both' --durations=10

check: $(READY_DEV) ## style, form and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(READY_DEV) ## whether the documentation still says what the code does
	$(BIN)/python docs/settings.py --check
	$(BIN)/python -m pytest tests/test_docs.py

bench: $(READY) ## ours beside its peers, on this machine; ONLY=sft for one of them
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY))

hooks: $(READY_DEV) ## style and form before every commit
	$(BIN)/pre-commit install

setup-browser: ## Chromium, with which some tests open the chat page; they are skipped without it
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo 'no apt-get here: install Chromium in your own way'; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	echo 'Installing Chromium with apt-get; this fetches some 100 MB and may take minutes.'; \
	$$root apt-get update && $$root apt-get install --yes --no-install-recommends chromium

setup-postgres: ## PostgreSQL, on which some tests run a database of their own; they are skipped without it
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo 'no apt-get here: install PostgreSQL in your own way'; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then root=; else root=sudo; fi; \
	echo 'Installing PostgreSQL with apt-get; this fetches some 50 MB.'; \
	$$root apt-get update && $$root apt-get install --yes --no-install-recommends postgresql

setup-kernels: $(READY_DEV) ## Liger's kernels, which some tests run in Triton's interpreter; they are skipped without
	$(BIN)/python -c 'import liger_kernel' 2>/dev/null || $(BIN)/python -m pip install -e '.[cuda]'

# The stamps stand for a set-up that went through to its end, with these two files as they are.
$(READY): pyproject.toml torch.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo '$(PYTHON) is older than 3.11: name another, as in `make course PYTHON=python3.12`'; exit 1; }
	@echo 'Setting up $(VENV), 1 of 3: the environment'
	$(PYTHON) -m venv $(VENV)
	@echo 'Setting up $(VENV), 2 of 3: torch, the large one; this may take minutes'
	$(BIN)/python -m pip install -r torch.txt
	@echo 'Setting up $(VENV), 3 of 3: tutelage and what it stands on'
	$(BIN)/python -m pip install -e .
	@touch $@

$(READY_DEV): $(READY)
	@echo 'Setting up $(VENV): what the tests and checks need'
	$(BIN)/python -m pip install -e '.[dev]'
	@touch $@
