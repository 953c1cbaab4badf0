# Every target sets up what it needs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo test check unit lock bench demo-model clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the environment: .venv with everything locked (about 6 GB, torch included)

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; set PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "error: $(PYTHON) has no venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Run it: name server, engine and client on the bundled model, offline
	@$(BIN)/modelengine demo --up

test: check ## Run every check and every test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --skip-empty

check: setup ## Lint, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup ## Run the tests that take seconds
	$(PYTEST) -q tests/unit

bench: setup ## Measure: look-ups, start, HTTP layer, throughput; prints a table
	$(BIN)/python -m bench

demo-model: setup ## Train the bundled model anew (resumable; about 90 minutes on 2 cores)
	$(BIN)/python -m demo.tokenizer
	nice -n 19 $(BIN)/python -m demo.train --tokens 24000000 $(if $(wildcard demo/.work/checkpoint.pt),--resume)
	$(BIN)/python -m demo.export
	$(BIN)/python -m demo.evaluate

lock: setup ## Lock the newest allowed dependencies, with hashes and without addresses
	for name in uv dev; do \
	  case $$name in uv) from="requirements/uv.in";; dev) from="pyproject.toml --all-extras --group dev";; esac; \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header $$from -o requirements/$$name.txt; \
	done

clean: ## Remove what can be made again
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* dist build
