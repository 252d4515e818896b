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
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Stops a target that was given no FOLDER or FILE to read.
needs = $(foreach name,$(1),$(if $($(name)),,$(error make $@ needs $(name)=...; the line above the target says of what)))

.PHONY: setup train test check params results curve intervals browser olah parity quantization bench dropout runs peers readme

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv (a few minutes)"
	$(PIP) torch
	$(PIP) --editable '.[quickstart,quantization,sentencepiece,dev]'
	@touch .venv/ready

train: .venv/ready
	@$(BIN)/python -m lora_tune train $(RECIPE) $(SET)

test: .venv/ready
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

params: .venv/ready
	$(BIN)/python benchmarks/trainable_parameters.py
	$(BIN)/python benchmarks/readme.py

# make results NAME=tweets RECIPE=minilm_imdb_lora DATA=FOLDER SET=...: keeps what is printed
results: .venv/ready
	$(BIN)/python benchmarks/real_data.py $(NAME) $(RECIPE) "$(DATA)" $(SET)
	$(BIN)/python benchmarks/readme.py

# make curve RECIPE=minilm_imdb_lora ROWS=250,1000,3000 DATA=FOLDER MORE=FILE: the same over rows
curve: .venv/ready
	$(call needs,ROWS DATA MORE)
	$(BIN)/python benchmarks/curve.py $(RECIPE) $(ROWS) $(DATA) $(MORE)
	$(BIN)/python benchmarks/readme.py

# make intervals: how often the intervals hold the truth, by simulation
intervals: .venv/ready
	$(BIN)/python benchmarks/interval_coverage.py

# make browser: what the test of the report drives Chromium with
browser: .venv/ready
	$(PIP) --editable '.[browser]'

# make olah: an independent Hub server in an environment of its own, for one more test
olah:
	$(PYTHON) -m venv .olah
	.olah/bin/python -m pip install --quiet --disable-pip-version-check olah==0.5.4

# make parity: what merging changes, in fp32, in bf16 and from a 4-bit base
parity: .venv/ready
	$(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/readme.py

# make quantization DATA=FOLDER BASE=FOLDER: a GPT-2 on tweets in float32, bfloat16, 8 and 4 bits
quantization: .venv/ready
	$(call needs,DATA BASE)
	$(BIN)/python benchmarks/quantization.py "$(DATA)" "$(BASE)"

# make bench DATA=FOLDER: training speed beside plain Trainer and PEFT, on IMDb reviews
bench: .venv/ready
	$(call needs,DATA)
	$(BIN)/python benchmarks/speed.py $(DATA)
	$(BIN)/python benchmarks/step_profile.py $(DATA)
	$(BIN)/python benchmarks/parts.py $(DATA)
	$(BIN)/python benchmarks/time_to_accuracy.py $(DATA)

# make dropout DATA="REVIEWS MORE TWEETS ENTITIES": what the base's own dropout is worth
dropout: .venv/ready
	$(call needs,DATA)
	$(BIN)/python benchmarks/base_dropout.py $(DATA)

# make runs DATA=FOLDER MORE=FILE: the cost of many rows, and of a second run
runs: .venv/ready
	$(call needs,DATA MORE)
	$(BIN)/python benchmarks/whole_runs.py $(DATA) $(MORE)

# make peers DATA=FOLDER [BASE=FOLDER]: beside other tools, each in .peers; BASE: a GPT-2, to write
peers: .venv/ready
	$(call needs,DATA)
	$(BIN)/python benchmarks/peers.py "$(DATA)" $(if $(BASE),--causal-base "$(BASE)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONCE),--once $(ONCE))

readme: .venv/ready
	$(BIN)/python benchmarks/readme.py
