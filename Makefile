# Two commands do all the set-up: `make demo` and `make test`.
# uv is used where it is installed, else venv and pip; versions are locked in requirements/.

PYTHON ?= python3
# What order the tests have and what they draw: the same each time, others for another number.
SEED ?= 7
UV := $(shell command -v uv 2>/dev/null)
RUN := .venv
DEV := .venv-dev

.PHONY: help demo test test-all lint unit bench killpoints fuzz soak powercut format lock clean

help:
	@echo "make demo    run the main job on a throw-away local storage"
	@echo "make test    all checks and tests"
	@echo "make test-all  the same with chance, and the tests that make other ones more thorough (minutes more)"
	@echo "make lint    formatting, lint, types, layers"
	@echo "make unit    the tests alone"
	@echo "make bench   the figures of docs/benchmarks.md"
	@echo "make killpoints  a daemon dies before and after each step of a job's way (some twenty minutes)"
	@echo "make fuzz    daemons, crashes, outages and clocks in random order, 60 times as many as in a test run"
	@echo "make soak    daemons are killed all the time; what is lost (some minutes)"
	@echo "make powercut  the power of real file systems is cut (root; some minutes)"
	@echo "make lock    renew requirements/*.txt (needs uv)"
	@echo "make clean   remove the environments and caches"

demo: $(RUN)/.linked
	$(RUN)/bin/spooler demo

test: lint unit

lint: $(DEV)/.linked
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports --no-logo
	$(DEV)/bin/codespell

unit: $(DEV)/.linked
	$(DEV)/bin/python -m pytest -m "not proof" --randomly-seed=$(SEED) --hypothesis-seed=$(SEED)

test-all: lint
	$(DEV)/bin/python -m pytest

bench: $(DEV)/.linked
	$(DEV)/bin/python -m benchmarks --write docs/benchmarks.md

killpoints: $(DEV)/.linked
	$(DEV)/bin/python -m tests.model
	$(DEV)/bin/python -m tests.faults

fuzz: $(DEV)/.linked
	SPOOLER_TEST_FUZZ=60 $(DEV)/bin/python -m pytest -n 2 --timeout 7200 tests/faults/test_state_machine.py

powercut: $(DEV)/.linked
	$(DEV)/bin/python -m tests.powercut

soak: $(DEV)/.linked
	$(DEV)/bin/python -m tests.soak

format: $(DEV)/.linked
	$(DEV)/bin/ruff format .
	$(DEV)/bin/ruff check --fix .

lock:
	uv pip compile pyproject.toml --extra simulator --group build $(LOCK_FLAGS) -o requirements/run.txt
	uv pip compile pyproject.toml --extra simulator --group dev $(LOCK_FLAGS) -o requirements/dev.txt
LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet

clean:
	rm -rf $(RUN) $(DEV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# An environment is complete when its mark is there: a half-made one is made again.
# $(1) the folder, $(2) the locked requirements.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spooler needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	@echo "installing $(2) into $(1)"
	@rm -rf $(1)
	@$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(1),$(PYTHON) -m venv $(1))
	@$(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet --disable-pip-version-check) --require-hashes -r $(2)
	@touch $(1)/.installed
endef
define link
	@$(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet --disable-pip-version-check) --no-deps --no-build-isolation -e .
	@touch $(1)/.linked
endef

$(RUN)/.installed: requirements/run.txt
	$(call install,$(RUN),requirements/run.txt)

$(DEV)/.installed: requirements/dev.txt
	$(call install,$(DEV),requirements/dev.txt)

$(RUN)/.linked: $(RUN)/.installed pyproject.toml
	$(call link,$(RUN))

$(DEV)/.linked: $(DEV)/.installed pyproject.toml
	$(call link,$(DEV))
