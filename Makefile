# Every verb sets up .venv first, so a fresh clone needs no other command.
PYTHON ?= python3
RECIPE ?= quickstart
SET ?=
BIN := .venv/bin

.PHONY: setup train test check params

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[quickstart,quantization,dev]'
	touch .venv/ready

train: .venv/ready
	$(BIN)/python -m lora_tune train $(RECIPE) $(SET)

test: .venv/ready
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

params: .venv/ready
	$(BIN)/python benchmarks/trainable_parameters.py
