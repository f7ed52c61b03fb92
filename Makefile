# make sweep   set up what is missing, then train and print the digits' table   (ARGS="seeds=0 ...")
# make test    set up what is missing, then lint, type-check and test           (ARGS="-k store" or ARGS=--all)
# make setup   only set up                                                      (PYTHON=python3.12)
# make fashion-mnist  install Debian's package with these images (root or sudo, and apt)
# make clean   remove the virtual environment and caches; the records in runs/ stay
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: sweep test setup fashion-mnist clean
.DEFAULT_GOAL := setup

sweep: setup
	@$(BIN)/python -m harness.sweep methods=all dataset=digits $(ARGS)

test: setup
	@$(BIN)/ruff check --quiet . && echo "lint: ok"
	@$(BIN)/ruff format --quiet --check . && echo "format: ok"
	@$(BIN)/mypy --no-error-summary && echo "types: ok"
	@$(BIN)/pytest $(ARGS)

setup: $(VENV)/installed

# The stamp is younger than everything that decides what is installed; a second call does nothing.
# tools/system-packages prints the extras that this machine can have: FFCV's only where it can be compiled.
$(VENV)/installed: pyproject.toml constraints.txt tools/system-packages
	@extras="$$(PYTHON=$(PYTHON) tools/system-packages)" && \
	{ test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); } && \
	echo "installing the packages into $(VENV) (about 7 GB with torch's CUDA build; minutes the first time)" && \
	$(PIP) --editable '.[train,dev]' && \
	for extra in $$extras; do $(PIP) --editable ".[$$extra]" || echo "$$extra could not be installed: going on without it"; done
	@touch $@

fashion-mnist:
	@run=; [ "$$(id -u)" -eq 0 ] || run=sudo; $$run apt-get install -qq -y --no-install-recommends dataset-fashion-mnist

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
