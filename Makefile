# Two commands do all set-up on a fresh machine (Debian or Raspberry Pi OS, Python 3.11+, make, no root):
#   make demo    runs the product's main job
#   make test    passes the tests
# A second run starts at once: what is installed is remembered by the checksum of what asked for it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Build backends warn about editable installs; nobody who runs make can act on it.
INSTALL := PYTHONWARNINGS=ignore $(PIP) install --quiet --constraint constraints.txt --editable
REQUIRES := pyproject.toml constraints.txt
# One thread per process: two threads on a busy two-core machine are slower than one.
export OMP_NUM_THREADS := 1
# Whole files, in the order that tests/conftest.py gives them: what is set up for a file is set up once.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
APART := tests/test_demos.py tests/gateway/test_soak.py tests/gateway/test_checklist_crashes.py
THOROUGH := $(APART) $(addprefix tests/contracts/,test_forge.py test_lives.py test_settlement.py) \
	$(addprefix tests/device_agent/,test_agent_fuzz.py test_agent_link_fuzz.py)
export NPM_CONFIG_UPDATE_NOTIFIER := false

.NOTPARALLEL:
.PHONY: demo test test-field test-bluetooth thorough soak data toolchain lint types check slither mutants bench constraints clean help
.DEFAULT_GOAL := help

help:
	@echo 'make demo    ten devices learn from each other and are paid: runs/demo-oppcl and runs/demo-gossip'
	@echo 'make test    all tests that need no root'
	@echo 'make test-field  agents that find each other on a network, on hosts made of namespaces; as root'
	@echo 'make test-bluetooth  the radio on a real bluetoothd, in a kernel of its own; as root'
	@echo 'make thorough random tests of contracts and parsers ten times as deep, the demos through each door, a short soak'
	@echo 'make soak    the relay while everything fails that can: make soak SEED=1 ENCOUNTERS=1000'
	@echo 'make check   lint and types'
	@echo 'make slither analyse the contracts'
	@echo 'make mutants do the tests find seeded faults in the contracts?'
	@echo 'make bench   measure; prints a table and writes bench.json'
	@echo 'make clean   remove what was built (not runs/, not the datasets)'

demo: $(VENV)/ready-simulate data
	@$(BIN)/idml-agent simulate demo-oppcl --out runs/demo-oppcl --overwrite
	@$(BIN)/idml-agent simulate demo-gossip --out runs/demo-gossip --overwrite

test: $(VENV)/ready-dev data toolchain
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(addprefix --ignore ,$(APART) tests/field tests/hardware tests/bluetooth) $(PYTEST_ARGS)

# Real agents on hosts of their own, which are network namespaces: needs root, and the packages iproute2 and iptables.
# They wait more than they compute: four tests at a time keep two cores half busy.
test-field: $(VENV)/ready-dev data toolchain
	$(BIN)/python -m pytest -p no:randomly -n 4 --dist worksteal tests/field $(PYTEST_ARGS)

# A real bluetoothd and adapters without a radio, in a Linux kernel that is a program: needs root. It installs what is
# missing of Debian's packages (bluez, dbus; gcc, flex, bison, bc to build the kernel), and keeps the kernel that it builds.
test-bluetooth: $(VENV)/ready-dev data toolchain
	@$(BIN)/python tests/bluetooth/laboratory.py $(PYTEST_ARGS)

# What is tried at random is tried more often: 10,000 values per property and 100,000 calls per invariant in Solidity.
# And the demos are run whole, through each door; the gateway is killed at every write it makes; and a short soak.
thorough: $(VENV)/ready-dev toolchain
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --hypothesis-profile thorough --timeout 1800 $(THOROUGH) $(PYTEST_ARGS)

# A thousand encounters take three to twenty minutes on two cores, by machine; Ctrl-C ends it.
SEED := 1
ENCOUNTERS := 1000
soak: $(VENV)/ready-dev toolchain
	@$(BIN)/python tests/gateway/soak.py --seed $(SEED) --encounters $(ENCOUNTERS)

check: lint types

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready-dev
	$(BIN)/mypy

# Its packages want other versions than ours: it has an environment of its own.
slither: $(VENV)-slither/ready toolchain
	@$(BIN)/idml-contracts slither --slither $(CURDIR)/$(VENV)-slither/bin/slither

$(VENV)-slither/ready: Makefile | $(VENV)/pip
	@$(PYTHON) -m venv $(VENV)-slither
	@$(VENV)-slither/bin/python -m pip --disable-pip-version-check install --quiet slither-analyzer==0.11.6 crytic-compile==0.4.2
	@touch $@

# Seeded faults in the contracts, each of which some test has to find: half an hour or more.
mutants: $(VENV)/ready-dev toolchain
	@$(BIN)/python tests/contracts/mutants.py $(MUTANTS)

bench: $(VENV)/ready-dev data toolchain
	$(BIN)/python tests/bench/bench.py --out bench.json $(BENCH_ARGS)

$(VENV)/pip: $(REQUIRES)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Python has no venv: install the package python3-venv, or name another Python: make PYTHON=...' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --constraint constraints.txt --upgrade pip setuptools
	@touch $@

$(VENV)/ready-simulate: $(VENV)/pip
	@echo 'Installing what the simulation needs (PyTorch is large: this takes a minute or more)...'
	@$(INSTALL) '.[simulate]'
	@touch $@

$(VENV)/ready-dev: $(VENV)/pip
	@echo 'Installing what the tests need (PyTorch is large: this takes a minute or more)...'
	@$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/ready-simulate

# Both return at once when there is nothing to do, and repair what was removed since.
data: | $(VENV)/pip
	@$(BIN)/idml-models fetch fashion-mnist

toolchain: $(VENV)/ready-dev
	@$(BIN)/idml-contracts toolchain

# Versions that were tried together. torch is pinned in pyproject.toml, by platform.
constraints: $(VENV)/ready-dev
	@echo '# Made by `make constraints`: the versions the tests last passed with.' > constraints.txt
	@$(PIP) freeze --exclude-editable | grep -viE '^(torch|torchvision|idml|nvidia|cuda|triton)' >> constraints.txt

clean:
	rm -rf $(VENV) $(VENV)-slither *.egg-info build dist bench.json contracts/toolchain/node_modules contracts/toolchain/forge .pytest_cache .mypy_cache .ruff_cache .hypothesis
