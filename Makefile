# Every verb sets up .venv first, so a fresh clone needs no other command.
PYTHON ?= python3
RECIPE ?= quickstart
SET ?=
NAME ?= $(RECIPE)
DATA ?=
ROWS ?=
MORE ?=
BASE ?=
ROUNDS ?=
ONCE ?=
MINUTES ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Stops a target whose arguments are not all given.
needs = $(foreach name,$(1),$(if $($(name)),,$(error make $@: found no $(name)=...; see benchmarks/README.md)))

.PHONY: setup train test unit check docs browser olah
.PHONY: params results curve quality defaults intervals parity quantization dropout equality speed step-profile parts reading time-to-accuracy bench whole-runs default-runs precision peers pages readme

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv (a few minutes)"
	$(PIP) torch
	$(PIP) --editable '.[quickstart,quantization,excel,sentencepiece,dev]'
	@touch .venv/ready

train: .venv/ready
	@$(BIN)/python -m lora_tune train $(RECIPE) $(SET)

# Test files run side by side, one process for each core.
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

test: .venv/ready
	$(PYTEST)

# make unit: the tests without training, in less than a minute
unit: .venv/ready
	$(PYTEST) tests/unit -m "not slow"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# make docs: the pages that are generated from the code
docs: .venv/ready
	$(BIN)/python docs/generate_recipe_page.py
	$(BIN)/python docs/generate_architecture_page.py

# make browser: what the test of the report drives Chromium with
browser: .venv/ready
	$(PIP) --editable '.[browser]'

# make olah: an independent Hub server in an environment of its own, for one more test
olah:
	$(PYTHON) -m venv .olah
	.olah/bin/python -m pip install --quiet --disable-pip-version-check olah==0.5.4

# The benchmarks; benchmarks/README.md says what each measures, what it needs and how long it takes.
BENCHMARKS := $(BIN)/python -m benchmarks

# make params: trainable parameters of every recipe
params: .venv/ready
	$(BENCHMARKS).quality.trainable_parameters
	$(BENCHMARKS).readme

# make results NAME=tweets RECIPE=minilm_imdb_lora DATA=FOLDER SET=...: what `train` prints
results: .venv/ready
	$(BENCHMARKS).quality.real_data $(NAME) $(RECIPE) "$(DATA)" $(SET)
	$(BENCHMARKS).readme

# make curve RECIPE=minilm_imdb_lora ROWS=250,1000,3000 DATA=FOLDER MORE=FILE: a learning curve
curve: .venv/ready
	$(call needs,ROWS DATA MORE)
	$(BENCHMARKS).quality.curve $(RECIPE) $(ROWS) "$(DATA)" "$(MORE)"
	$(BENCHMARKS).readme

# make intervals: how often the intervals contain the true value, by simulation
intervals: .venv/ready
	$(BENCHMARKS).quality.interval_coverage

# make parity: what merging changes, in float32, in bfloat16 and from a 4-bit base model
parity: .venv/ready
	$(BENCHMARKS).quality.parity
	$(BENCHMARKS).readme

# make quantization DATA=FOLDER BASE=FOLDER: a GPT-2 on tweets in float32, bfloat16, 8 and 4 bits
quantization: .venv/ready
	$(call needs,DATA BASE)
	$(BENCHMARKS).quality.quantization "$(DATA)" "$(BASE)"

# make quality DATA=FOLDER MINUTES=60: LoRA and what it is compared with, on many data sets and sizes
quality: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).quality.quality "$(DATA)" $(if $(MINUTES),$(MINUTES),600)

# make defaults DATA=FOLDER MINUTES=60: the defaults compared with other values
defaults: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).quality.defaults "$(DATA)" $(if $(MINUTES),$(MINUTES),600)

# make precision DATA=FOLDER: training in float32 and in bfloat16
precision: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).speed.precision "$(DATA)"

# make default-runs DATA=FOLDER: the time of an unchanged recipe on few rows
default-runs: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).speed.default_runs "$(DATA)"

# make dropout DATA="REVIEWS MORE TWEETS ENTITIES": what dropout in the base model is worth
dropout: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).quality.base_dropout $(DATA)

# make equality DATA="IMDb TWEETS": the accuracy of lora_tune and of Trainer with PEFT, as equals
equality: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).quality.equality $(DATA)

# make speed DATA=FOLDER: training speed of lora_tune and of Trainer with PEFT
speed: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).speed.speed "$(DATA)"
	$(BENCHMARKS).readme

# make step-profile DATA=FOLDER: where the time of a training step goes
step-profile: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).speed.step_profile "$(DATA)"

# make parts DATA=FOLDER: what parts of lora_tune/fast gain
parts: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).speed.parts "$(DATA)"

# make reading: reading and tokenizing a large csv file, beside datasets.map
reading: .venv/ready
	$(BENCHMARKS).speed.reading

# make time-to-accuracy DATA=FOLDER: how long training takes to the Trainer's accuracy
time-to-accuracy: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).speed.time_to_accuracy "$(DATA)"
	$(BENCHMARKS).readme

# make bench DATA=FOLDER: speed, step-profile, parts and time-to-accuracy
bench:
	$(call needs,DATA)
	$(MAKE) speed
	$(MAKE) step-profile
	$(MAKE) parts
	$(MAKE) time-to-accuracy

# make whole-runs DATA=FOLDER MORE=FILE: what whole runs cost, and what a second run saves
whole-runs: .venv/ready
	$(call needs,DATA MORE)
	$(BENCHMARKS).speed.whole_runs "$(DATA)" "$(MORE)"

# make peers DATA=FOLDER [BASE=FOLDER]: other tools, each in .peers; BASE: a GPT-2, for causal models
peers: .venv/ready
	$(call needs,DATA)
	$(BENCHMARKS).peers.peers "$(DATA)" $(if $(BASE),--causal-base "$(BASE)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONCE),--once $(ONCE))
	$(BENCHMARKS).readme

# make pages: the pages of benchmarks/results that are made from recorded JSON, without measuring
pages: .venv/ready
	$(BENCHMARKS).pages
	$(BENCHMARKS).readme

# make readme: results copied into README.md and docs/
readme: .venv/ready
	$(BENCHMARKS).readme
