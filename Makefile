# Every target makes what it needs: on a fresh machine with CPython >= 3.11, venv and make, each works alone and first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Labelled surveys that the shipped model is trained on: folders with objects.parquet and observations.parquet.
LABELLED ?= ../shared/data/surveys
BUNDLE ?= build/bundle
SHIPPED := varstar_batch/model/bundles/default

.PHONY: help install demo test test-slow lint docs bench surveys bundle periods clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     simulate a survey, classify it, publish and query its catalog"
	@echo "make test     the tests, some minutes"
	@echo "make test-slow  the heavy ones: real servers, processes that are killed, some ten minutes"
	@echo "make lint     ruff and mypy"
	@echo "make docs     the documentation's site, in build/docs; the tutorial is run, warnings are errors"
	@echo "make bench    all benchmarks, some 20 minutes; ARGS=--quick for 3, ARGS=\"--only end_to_end\" for one part"
	@echo "make bundle   train the model that ships on the labelled surveys in $(LABELLED); ARGS=\"--folds 0\" for less"
	@echo "make install  the environment in $(VENV) only"
	@echo "make clean    remove $(VENV), caches and demo output"

# Pip and setuptools, too: those that venv brings are as old as the Python they come with.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "varstar-batch needs CPython >= 3.11, this is " + sys.version.split()[0] + "; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev,docs]'
	touch $@

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/varstar demo

# File by file on so many processes; whoever looks for one failure takes pytest itself.
TESTS_AT_ONCE ?= 2
test: $(STAMP)
	$(BIN)/python -m tests.makers.kernels
	$(BIN)/python -m pytest -m "not slow" -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder --durations=10

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(ARGS)

surveys: $(STAMP)
	for folder in $(LABELLED)/*/; do name=$$(basename $$folder); \
	  test -d build/surveys/$$name || $(BIN)/varstar ingest $$folder/observations.parquet build/surveys/$$name \
	    --objects $$folder/objects.parquet || exit $$?; \
	done

# The small network that questions periods; the small surveys are held out together.
periods: surveys
	$(BIN)/python -m varstar_batch.training.fitting.wrong_periods $(addprefix build/surveys/,$(TRAINED_ON)) --together \
	  ogle-lmc+ogle4-lmc-v+ogle4-lmc-i-overtones,eros2-b+eros2-r+sculptor-b+sculptor-v+field-rrl-b+field-rrl-i+field-rrl-v+gaia-cbm+sdss-s82 \
	  --write varstar_batch/model/periods.json

# Surveys of the same stars or of one telescope are held out together. A training that was cut off goes on. EROS-1 is left
# out: its long-period variables, of small amplitudes on photographic plates, are all labelled Mira, which takes the
# semi-regular variables of every other survey with it.
TRAINED_ON ?= asas3 crts-north crts-south eros2-b eros2-r field-rrl-b field-rrl-i field-rrl-v gaia-cbm hipparcos-ogle \
  ogle-lmc ogle4-lmc-i-overtones ogle4-lmc-v sculptor-b sculptor-v sdss-s82
TOGETHER ?= ogle-lmc+ogle4-lmc-v+ogle4-lmc-i-overtones,eros2-b+eros2-r,sculptor-b+sculptor-v,field-rrl-b+field-rrl-i+field-rrl-v
bundle: surveys
	$(BIN)/varstar train $(addprefix build/surveys/,$(TRAINED_ON)) --out $(BUNDLE) --replace \
	  --unseen --together $(TOGETHER) $(ARGS)
	cp $(BUNDLE)/bundle.json $(BUNDLE)/model.keras $(BUNDLE)/card.md $(SHIPPED)/

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
