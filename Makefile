# `make up` brings a two-cell cloud up, `make test` runs every test; both install what they need, on Debian 12 as root.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
STATE  ?= .polycell
BIN    := $(VENV)/bin
FAST   := not real and not clients and not faults
SIDE_BY_SIDE ?= -n 3 --dist worksteal
# The others start servers of their own, a file's tests on one worker; those with guests that boot run alone.
BY_FILE ?= -n 2 --dist loadfile
ALONE  := tests/lab
# Whole clouds, and kills at each call: too long for `make check`.
LONG   := tests/federation tests/compute_host/test_kills.py tests/compute_host/test_stopped_actions.py
SUITES ?= placement osc-placement novaclient openstacksdk openstackclient

# make up CONSTRAINTS=constraints.txt installs the versions of packages that were tested together.
CONSTRAINTS ?=
# setuptools warns of what an editable installation is; here that is wanted.
PIP = PYTHONWARNINGS=ignore $(BIN)/pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

# Without compiled modules each worker of pytest, and each process of a cloud that a test starts, compiles them all again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up down test test-clients check bench install install-test packages packages-test clean

up: install
	$(BIN)/polycell up --state $(STATE) $(UP_ARGS)

down:
	$(BIN)/polycell down --state $(STATE)

test: install-test packages-test
	status=0; \
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "$(FAST)" $(PYTEST_ARGS) || status=1; \
	$(BIN)/pytest $(BY_FILE) -m "not ($(FAST))" $(ALONE:%=--ignore=%) $(PYTEST_ARGS) || status=1; \
	$(BIN)/pytest -m "not ($(FAST))" $(ALONE) $(PYTEST_ARGS) || status=1; \
	exit $$status

# The functional tests of public clients, from their source distributions: figures and known failures in tests/public/known.
test-clients: install-test
	status=0; for suite in $(SUITES); do $(BIN)/python -m tests.public.run $$suite || status=1; done; exit $$status

check: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "$(FAST) and not wide" $(LONG:%=--ignore=%)

bench: install-test
	tools/bench.sh $(BIN)

install: $(VENV)/.installed
	@# The binding is compiled against the libvirt that is here; without it hosts are simulated.
	@if ! $(BIN)/python -c 'import libvirt' 2>/dev/null && pkg-config --exists libvirt 2>/dev/null; then \
	    $(PIP) -e '.[libvirt]' \
	        || echo 'libvirt-python could not be built: hosts will be simulated' >&2; \
	fi

install-test: install $(VENV)/.installed-test

$(VENV)/.installed: setup.py | packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Polycell needs Python 3.11 or later, and $(PYTHON) is older: make PYTHON=/path/of/python3.11" >&2; exit 1; }
	@echo "Python packages are installed into $(VENV): about half a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) -e '.[clients]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Python packages of the tests are installed into $(VENV)"
	@$(PIP) -e '.[dev]'
	@touch $@

packages:
	tools/packages.sh up

packages-test:
	tools/packages.sh test

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
