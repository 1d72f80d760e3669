# `make demo` and `make test` work from a fresh clone: they create .venv and install what they need, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Gigabytes of CUDA libraries are installed only where an NVIDIA driver can use them.
ifeq ($(wildcard /proc/driver/nvidia/version /dev/nvidiactl),)
REQUIREMENTS := sed 's/\[and-cuda\]//' requirements.txt
else
REQUIREMENTS := cat requirements.txt
endif

.PHONY: help demo test test-other test-lowest test-wheel mutants fuzz soak peers bench study docs lint clean

help:
	@echo 'make demo    train on real digits, compare raw weights with their averages (minutes)'
	@echo 'make test    run the tests; comparisons with other implementations skip where they are missing'
	@echo 'make test-other   run the quick ones with another Python (OTHER=python3.13)'
	@echo 'make test-lowest  run them with the oldest Python and packages that are allowed (LOWEST=python3.10)'
	@echo 'make test-wheel   build, install into an empty environment, and train outside of the checkout'
	@echo 'make mutants put small faults into the code and count those that the tests find (MINUTES=60)'
	@echo 'make fuzz    read files that a fuzzer makes, by every reader (MINUTES=60)'
	@echo 'make soak    kill trainings, fill their disks, read hostile files; is anything lost?'
	@echo 'make peers   install those other implementations (PyTorch, diffusers, torch-fidelity ...)'
	@echo 'make bench   measure speed and memory, beside diffusers too, into benchmarks/RESULTS.md (an hour)'
	@echo 'make study   run the whole published study from nothing (a day); it goes on where it was'
	@echo 'make docs    write the documentation into site/'
	@echo 'make lint    check format, style and types'
	@echo 'make clean   remove .venv'

demo: $(VENV)/.installed
	$(BIN)/python train.py

PYTEST := -m pytest -n auto --maxprocesses 4 --dist loadfile
# In parts, one after the other: what TensorFlow and XLA compiled stays in memory until a process ends.
PARTS := 'tests/conformance tests/data tests/test_[a-d]*' 'tests/test_[e-h]*' 'tests/test_[i-r]*' 'tests/test_[s-z]*'
in_parts = failed=; for part in $(PARTS); do $(1) $(PYTEST) $(2) $$part || failed="$$failed $$part;"; done; \
	test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

test: $(VENV)/.installed-test
	@$(call in_parts,$(BIN)/python)

# Imports, averages, samplers, sources, options, --help, and a training of a few steps by the command line.
QUICK := $(addprefix tests/test_,packaging.py decays.py ema.py samplers.py options.py main.py run.py extending.py)
OTHER ?= python3.13
test-other: $(VENV)/.installed-release
	$(BIN)/uv venv --clear --python $(OTHER) build/other
	$(BIN)/uv pip install --python build/other --editable '.[test]'
	build/other/bin/python $(PYTEST) $(QUICK)

LOWEST ?= python3.10
test-lowest: $(VENV)/.installed-release
	$(BIN)/uv venv --clear --python $(LOWEST) build/lowest
	$(BIN)/uv pip install --python build/lowest --resolution lowest-direct --editable '.[test]'
	@$(call in_parts,build/lowest/bin/python,-W ignore::DeprecationWarning)

test-wheel: $(VENV)/.installed-release
	rm -rf build/wheel && mkdir -p build/wheel/elsewhere
	$(BIN)/python -m build --outdir build/wheel
	$(BIN)/twine check --strict build/wheel/*.whl build/wheel/*.tar.gz
	$(BIN)/uv venv --python $(BIN)/python build/wheel/venv
	$(BIN)/uv pip install --python build/wheel/venv build/wheel/*.whl
	cd build/wheel/elsewhere && ../venv/bin/ddpm-keras train --steps 20

MINUTES ?= 60
mutants: $(VENV)/.installed-test
	@$(PIP) --editable '.[mutants]'
	$(BIN)/python tests/mutants.py --minutes $(MINUTES)

fuzz: $(VENV)/.installed-test
	@$(PIP) --editable '.[fuzz]'
	$(BIN)/python tests/soak/fuzz.py --minutes $(MINUTES)

soak: $(VENV)/.installed-test
	$(BIN)/python tests/soak/kills.py --kills 40
	$(BIN)/python tests/soak/kills.py --kills 14 --replicas 2
	$(BIN)/python tests/soak/full_disk.py --disks 30
	$(BIN)/python tests/soak/damage.py --places 300
	$(BIN)/python tests/soak/hostile.py
	$(BIN)/python tests/soak/kill_workers.py --kills 12

peers: $(VENV)/.installed-peers

bench: $(VENV)/.installed-peers
	$(BIN)/python benchmarks/publish.py

study: $(VENV)/.installed
	$(BIN)/python studies/study.py run
	$(BIN)/python studies/study.py collect runs/study
	$(BIN)/python studies/study.py write

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

clean:
	rm -rf $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml
	@echo 'Installing into $(VENV) (once, a minute or two) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(REQUIREMENTS) > $(VENV)/requirements.txt
	@$(PIP) -r $(VENV)/requirements.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.installed-release: $(VENV)/.installed
	@$(PIP) --editable '.[release]'
	@touch $@

$(VENV)/.installed-peers: $(VENV)/.installed-test tests/conformance/requirements.txt
	@echo 'Installing other implementations to compare with ...'
	@$(PIP) --editable '.[conformance]'
	@$(PIP) --no-deps -r tests/conformance/requirements.txt
	@touch $@
