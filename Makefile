# Everything runs in a virtual environment of the project's own, made and kept up to date on the way.
VENV ?= .venv
ARGS ?=
# SHORT=1: the long suites try a part of their cases, drawn by the git commit; ARGS="--test-seed=N" for another part
SHORT ?=
# the first Python here that is new enough; another: make PYTHON=/path/to/python3.12 ...
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# timm's RandAugment raises under Pillow 13; to be measured it gets an older one, beside the installed
PILLOW_12 := $(VENV)/pillow-12
FORM := $(if $(SHORT),--short)
# a file of tests stays on one worker, which then shares its runs; the files in the order of tests/support/order.py;
# a test that hangs fails by its name
TWO := -n 2 --dist loadfile --no-loadscope-reorder --time-limit 900

.DEFAULT_GOAL := help
.PHONY: help train quick test test-all test-long test-dense test-accuracy test-faults test-timm bench-data check format install browser constraints clean

help:  ## this list
	@echo "hornet-train: make <target> [ARGS='key=value ...']"
	@sed -n 's/^\([a-z-]*\):.*##/  \1\t/p' $(MAKEFILE_LIST) | expand -t 18

train: $(INSTALLED)  ## train the default model on real images; ARGS are those of hornet-train
	@echo "== hornet-train $(ARGS)"
	@$(BIN)/hornet-train $(ARGS)

test: $(INSTALLED)  ## run the test suite; ARGS are those of pytest
	@echo "== pytest: the test suite, about a quarter of an hour on two CPU cores"
	@$(BIN)/pytest $(TWO) -m "not accuracy and not faults and not dense and not long" $(ARGS)

quick: $(INSTALLED)  ## the most telling minute of the tests, while you work
	@echo "== import-linter and pytest -m quick, about a minute on two CPU cores"
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest $(TWO) -m quick $(ARGS)

test-all: test test-long test-dense test-accuracy test-faults test-timm  ## all tests in full

test-long: $(INSTALLED)  ## the tests that take long, each for itself (SHORT=1: a quarter of them)
	@echo "== pytest: tests that take long, some minutes on two CPU cores"
	@$(BIN)/pytest $(TWO) -m "long and not accuracy and not faults and not dense" $(FORM) $(ARGS)

test-dense: $(INSTALLED)  ## train and evaluate segmentation models and detectors (SHORT=1: with fewer of the loop's options)
	@echo "== pytest: runs of segmentation and detection, ten minutes on two CPU cores"
	@$(BIN)/pytest $(TWO) -m dense $(FORM) $(ARGS)

test-accuracy: $(INSTALLED)  ## train the default model with five seeds (SHORT=1: one) and check what they reach
	@echo "== pytest: trainings of the default model, more than a minute each on two CPU cores"
	@$(BIN)/pytest -m accuracy $(FORM) $(ARGS)

test-faults: $(INSTALLED)  ## stop, kill and damage real runs (SHORT=1: fewer), and see them go on
	@echo "== pytest: runs that are stopped, some minutes on two CPU cores"
	@$(BIN)/pytest $(TWO) -m faults $(FORM) $(ARGS)

test-timm: $(INSTALLED)  ## timm's own tests of models, unchanged, on ours (SHORT=1: pico and tiny); needs the package index
	@echo "== pytest: timm's tests/test_models.py on hornet_*, some minutes on two CPU cores"
	@$(BIN)/python scripts/timm_suite.py $(FORM) $(ARGS)

bench-data: $(INSTALLED) $(PILLOW_12)  ## measure the data pipeline beside timm's; ARGS are those of hornet-data bench
	@PYTHONPATH=$(PILLOW_12) $(BIN)/hornet-data bench $(ARGS)

check: $(INSTALLED)  ## format, lint, types, import contracts
	@echo "== ruff format" && $(BIN)/ruff format --check .
	@echo "== ruff check" && $(BIN)/ruff check .
	@echo "== mypy" && $(BIN)/mypy
	@echo "== import-linter" && $(BIN)/lint-imports --no-logo

format: $(INSTALLED)  ## format the code and mend what lint can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

install: $(INSTALLED)  ## make the virtual environment and install what pyproject.toml asks for

browser:  ## install Chromium, in which the page of hornet-predict --serve is tested (Debian, as root)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
		|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; }

constraints: $(INSTALLED)  ## write the versions installed now to constraints.txt
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable \
		| grep -viE '^(nvidia|cuda|triton|setuptools|pip)'; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt && touch $(INSTALLED)

clean:  ## remove the virtual environment
	rm -rf $(VENV)

$(PILLOW_12): | $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ 'pillow==12.*'

# Made again whenever what is asked for changes.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed; none was found" >&2; exit 2; }
	@echo "== installing into $(VENV) with $$($(PYTHON) --version): once, and again when pyproject.toml or constraints.txt change"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
